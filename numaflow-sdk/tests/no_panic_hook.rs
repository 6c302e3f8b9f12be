//! A server that is told to leave the panic hook alone. In a process of its own, because the hook is one a process.

use numaflow_sdk::testing::{self, MapClient};
use numaflow_sdk::{HandlerError, MapRequest, Message, Server, map};

#[tokio::test]
async fn a_panic_is_told_without_its_place() {
    let mapper =
        map::from_fn(async |_: MapRequest| -> Result<Message, HandlerError> { panic!("the poison was taken") });
    let server = Server::new(map::service(mapper)).panic_hook(false);
    let client = MapClient::over(testing::serve(server)).await.unwrap();
    for _ in 0..2 {
        let error = client.open().await.unwrap().map(MapRequest::new("x")).await.unwrap_err();
        assert_eq!(error.status().unwrap().message, "UDF_EXECUTION_ERROR(udf): the poison was taken");
    }
}
