//! What the program itself counts, through the facade `metrics`.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Of the process, as the facade's recorder is: all servers in it show the same. Empty when the program has its own.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Makes what the program counts from now on readable, unless it has installed a recorder of its own.
pub(crate) fn install() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            crate::logging::info!(
                "the program has a metrics recorder of its own, so /metrics shows only what the server counts"
            );
            return None;
        }
        Some(handle)
    });
}

fn handle() -> Option<&'static PrometheusHandle> {
    RECORDER.get().and_then(Option::as_ref)
}

/// What the program has counted, in Prometheus' text format.
pub(super) fn render() -> String {
    handle().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds the samples of histograms into their figures. Somebody has to do so now and then: until then they are kept one by
/// one, and nobody may ever ask for the page.
pub(super) fn upkeep() {
    if let Some(handle) = handle() {
        handle.run_upkeep();
    }
}
