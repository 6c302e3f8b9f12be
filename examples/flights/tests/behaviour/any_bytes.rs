//! Whatever the bytes are, the map has an answer for them.

use flights::Outcome;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::flight;

/// Bytes of any kind, and lines that are almost flights: these come further.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\ud800",
        "\\u0041",
        " ",
        "\r",
        "\n",
        "\t",
        "\u{feff}",
        "ü",
        "null",
        "true",
        "-",
        "0",
        "66",
        "1.5",
        "1e400",
        "5e-324",
        "\"date\":\"x\"",
        "\"delay\":",
        "\"distance\":",
        "\"delay\":5,",
        "\"distance\":100,",
        "\"origin\":\"SFO\"",
        "\"destination\":\"LAX\"",
        "x,5,100,SFO,LAX",
    ]);
    let almost = vec(pieces, 0..24).prop_map(|pieces| pieces.concat().into_bytes());
    let one_byte_off = (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(index, byte)| {
        let mut line = br#"{"date":"x","delay":5,"distance":100,"origin":"SFO","destination":"LAX"}"#.to_vec();
        let at = index.index(line.len());
        line[at] = byte;
        line
    });
    prop_oneof![vec(any::<u8>(), 0..200), almost, one_byte_off]
}

proptest! {
    #[test]
    fn every_line_has_an_outcome(line in line()) {
        match flight(&line) {
            Outcome::Mapped { key, value } => {
                prop_assert!(!value.contains(&b'\n'), "one line in, one line out");
                let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
                prop_assert_eq!(value.as_object().map(serde_json::Map::len), Some(10));
                let text = |field: &str| value[field].as_str().unwrap().to_owned();
                prop_assert_eq!(key, format!("{}-{}", text("origin"), text("destination")));
            }
            Outcome::Dropped => {}
            Outcome::DeadLetter { reason } => prop_assert!(!reason.to_string().is_empty()),
        }
    }
}
