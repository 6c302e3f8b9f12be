//! One test for each rule, with the lines at its borders.

use flights::{Field, Outcome, Reason};

use crate::flight;

/// The key and the value of a line that has to be mapped.
#[track_caller]
fn mapped(line: impl AsRef<[u8]>) -> (String, String) {
    match flight(&line) {
        Outcome::Mapped { key, value } => (key, String::from_utf8(value).unwrap()),
        Outcome::Dropped => panic!("dropped: {}", line.as_ref().escape_ascii()),
        Outcome::DeadLetter { reason } => panic!("dead letter ({reason}): {}", line.as_ref().escape_ascii()),
    }
}

#[track_caller]
fn dropped(line: impl AsRef<[u8]>) {
    let outcome = flight(&line);
    assert!(matches!(outcome, Outcome::Dropped), "{outcome:?}: {}", line.as_ref().escape_ascii());
}

#[track_caller]
fn dead_letter(line: impl AsRef<[u8]>) -> Reason {
    match flight(&line) {
        Outcome::DeadLetter { reason } => reason,
        outcome @ (Outcome::Mapped { .. } | Outcome::Dropped) => {
            panic!("{outcome:?}: {}", line.as_ref().escape_ascii())
        }
    }
}

/// A flight from San Francisco to Los Angeles, with this JSON for its delay and its distance.
fn json(delay: &str, distance: &str) -> String {
    format!(r#"{{"date":"2001/01/01 08:00","delay":{delay},"distance":{distance},"origin":"SFO","destination":"LAX"}}"#)
}

/// The same in CSV.
fn csv(delay: &str, distance: &str) -> String {
    format!("2001/01/01 08:00,{delay},{distance},SFO,LAX")
}

/// A flight with this JSON for one of its fields.
fn json_with(field: &str, value: &str) -> String {
    let fields = Field::ALL.map(|known| match known.name() {
        name if name == field => format!(r#""{name}":{value}"#),
        name @ ("delay" | "distance") => format!(r#""{name}":100"#),
        name => format!(r#""{name}":"SFO""#),
    });
    format!("{{{}}}", fields.join(","))
}

const COMPUTED: &str = r#""delay_per_100_miles":7.5,"origin_city":"San Francisco","origin_state":"CA","destination_city":"Los Angeles","destination_state":"CA"}"#;

#[test]
fn json_gains_the_computed_fields() {
    let line = json("30", "400");
    let (key, value) = mapped(&line);
    assert_eq!(key, "SFO-LAX");
    assert_eq!(value, format!("{},{COMPUTED}", line.strip_suffix('}').unwrap()));
}

#[test]
fn csv_becomes_the_same_json() {
    assert_eq!(mapped(csv("30", "400")), mapped(json("30", "400")));
    assert_eq!(mapped(r#""2001/01/01 08:00","30","400","SFO","LAX""#), mapped(json("30", "400")));
    assert_eq!(mapped("\u{feff}2001/01/01 08:00,30,400,SFO,LAX"), mapped(json("30", "400")));
}

#[test]
fn text_of_csv_is_escaped_for_json() {
    let (key, value) = mapped("\"the \"\"early\"\" \u{1}\",30,400,a\\b,{");
    assert_eq!(key, r"a\b-{");
    assert!(
        value.starts_with(r#"{"date":"the \"early\" \u0001","delay":30,"distance":400,"origin":"a\\b","#),
        "{value}"
    );
    let (key, value) = mapped("2001,30,400,5,null");
    assert_eq!(key, "5-null");
    let fields = r#"{"date":"2001","delay":30,"distance":400,"origin":"5","destination":"null","#;
    assert!(value.starts_with(fields), "text stays text: {value}");
}

#[test]
fn the_five_fields_keep_their_order_and_spelling() {
    let line = r#"{ "origin" : "S\u0046O", "distance":4e2 ,"destination":"LAX","date":"1\/2","delay":-0.30E+2}"#;
    let (key, value) = mapped(line);
    assert_eq!(key, "SFO-LAX");
    let fields = r#"{"origin":"S\u0046O","distance":4e2,"destination":"LAX","date":"1\/2","delay":-0.30E+2,"#;
    assert_eq!(value, format!("{fields}{}", COMPUTED.replace("7.5", "-7.5")));
}

#[test]
fn other_fields_are_left_out() {
    let line = json("30", "400");
    for more in [r#""carrier":"WN""#, r#""carrier":1,"carrier":{"delay":[]}"#, r#""huge":1e999"#, r#""half":"\ud800""#]
    {
        assert_eq!(mapped(line.replace('{', &format!("{{{more},"))), mapped(&line));
        assert_eq!(mapped(line.replace('}', &format!(",{more}}}"))), mapped(&line));
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(mapped(line.replace('}', &format!(r#","deep":{deep}}}"#))), mapped(&line));
}

#[test]
fn the_computed_number_is_exact() {
    let computed = |delay, distance| {
        let (_, value) = mapped(json(delay, distance));
        let (_, rest) = value.split_once(r#""delay_per_100_miles":"#).unwrap();
        rest.split_once(',').unwrap().0.to_owned()
    };
    assert_eq!(computed("66", "1750"), "3.7714285714285714");
    assert_eq!(computed("22", "1e3"), "2.1999999999999997", "the division comes first");
    assert_eq!(computed("0", "100"), "0.0");
    assert_eq!(computed("-0.0", "100"), "-0.0");
    assert_eq!(computed("21.21e-21", "100"), "2.121e-20", "fast parsers make 2.1210000000000002e-20 of it");
}

#[test]
fn an_airport_that_is_not_known_has_no_city_and_no_state() {
    let (key, value) = mapped(json("30", "400").replace("SFO", "ZZZ").replace("LAX", "MQT"));
    assert_eq!(key, "ZZZ-MQT");
    let places = r#""origin_city":null,"origin_state":null,"destination_city":null,"destination_state":null}"#;
    assert!(value.ends_with(places), "{value}");
}

#[test]
fn a_delay_that_is_not_a_number_drops_the_flight() {
    for delay in [r#""66""#, r#""""#, r#""late""#, "null", "true", "[66]", "{}", r#""\ud800""#] {
        dropped(json(delay, "400"));
    }
    for delay in
        ["", "late", "NA", "null", "+5", "05", ".5", "5.", "inf", "NaN", " 5", "5 ", "0x5", "5_0", "\u{665}", "1e"]
    {
        dropped(csv(delay, "400"));
    }
}

#[test]
fn a_distance_that_is_not_above_zero_drops_the_flight() {
    for distance in ["0", "0.0", "-0", "-0.0", "-1", "-1e400", "1e-400", r#""400""#, "null", "false", "[]"] {
        dropped(json("30", distance));
    }
    for distance in ["", "0", "-5", "far", "Infinity"] {
        dropped(csv("30", distance));
    }
    mapped(json("0", "5e-324"));
}

#[test]
fn a_csv_header_is_dropped() {
    dropped("date,delay,distance,origin,destination");
}

#[test]
fn a_number_beyond_a_float_makes_a_dead_letter() {
    for (delay, distance) in [("1e400", "400"), ("-1e400", "400"), ("0", "1e400"), ("1e307", "1"), ("1", "5e-324")] {
        assert!(matches!(dead_letter(json(delay, distance)), Reason::OutOfRange));
        assert!(matches!(dead_letter(csv(delay, distance)), Reason::OutOfRange));
    }
    mapped(json("1e306", "1"));
}

#[test]
fn broken_json_makes_a_dead_letter() {
    let line = json("30", "400");
    for end in 1..line.len() {
        assert!(matches!(dead_letter(&line[..end]), Reason::NotJson(_)));
    }
    for broken in [format!("{line}}}"), format!("{line} x"), format!("{line}{line}"), line.replace(',', ";")] {
        assert!(matches!(dead_letter(broken), Reason::NotJson(_)));
    }
    for delay in ["NaN", "Infinity", "05", "+5", ".5", "5.", "1e", "True", "'5'", "\"\t\"", r#""\x41""#] {
        assert!(matches!(dead_letter(json(delay, "400")), Reason::NotJson(_)));
    }
}

#[test]
fn a_field_twice_makes_a_dead_letter() {
    for again in [r#""delay":30"#, r#""d\u0065lay":null"#, r#""origin":"SFO""#] {
        let line = json("30", "400").replace('}', &format!(",{again}}}"));
        assert!(matches!(dead_letter(line), Reason::NotJson(_)));
    }
}

#[test]
fn a_missing_field_makes_a_dead_letter() {
    assert!(matches!(dead_letter("{}"), Reason::Missing(Field::Date)));
    for field in Field::ALL {
        let line = json_with(field.name(), "0").replace(field.name(), "other");
        assert!(matches!(dead_letter(line), Reason::Missing(missing) if missing == field));
    }
}

#[test]
fn text_that_is_no_text_makes_a_dead_letter() {
    for field in [Field::Date, Field::Origin, Field::Destination] {
        for value in ["null", "17", "true", "[]", "{}", r#""\ud800""#, r#""\udc00\ud800""#, r#""\ud83dA""#] {
            let reason = dead_letter(json_with(field.name(), value));
            assert!(matches!(reason, Reason::NotText(wrong, _) if wrong == field), "{reason}");
        }
    }
    let unusable_too = json("null", "0").replace(r#""SFO""#, "null");
    assert!(
        matches!(dead_letter(unusable_too), Reason::NotText(Field::Origin, _)),
        "what cannot be read is not dropped"
    );
}

#[test]
fn bytes_that_are_no_text_make_a_dead_letter() {
    let line = json("30", "400").into_bytes();
    for at in 0..line.len() {
        let mut line = line.clone();
        line[at] = 0xff;
        assert!(matches!(dead_letter(line), Reason::NotUtf8(_)));
    }
    assert!(matches!(dead_letter(b"2001/01/01 08:00,late,400,SFO,L\xc4X"), Reason::NotUtf8(_)));
}

#[test]
fn another_number_of_columns_makes_a_dead_letter() {
    for (line, expected) in
        [("", 0), ("\r", 0), ("hello", 1), (",,,", 4), (",,,,,", 6), ("\"a,b,c,d,e", 1), ("a;b;c;d;e", 1)]
    {
        assert!(matches!(dead_letter(line), Reason::NotFiveColumns(columns) if columns == expected), "{line:?}");
    }
}

#[test]
fn a_second_row_makes_a_dead_letter() {
    let row = csv("30", "400");
    assert!(matches!(dead_letter(format!("{row}\r{row}")), Reason::MoreThanOneRow));
    assert!(matches!(dead_letter(format!("{row}\n\"")), Reason::MoreThanOneRow));
}

#[test]
fn only_a_brace_begins_json() {
    let line = json("30", "400");
    // As CSV these have five columns, and `"delay":30` is no number.
    dropped(format!(" {line}"));
    dropped(format!("\u{feff}{line}"));
    assert!(matches!(dead_letter("null"), Reason::NotFiveColumns(1)));
}
