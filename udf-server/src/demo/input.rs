//! What the demo produces: the data that comes with it, a file, or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::error::Failure;

/// The real flights and the awkward lines, part of this program: it needs no file.
const FLIGHTS: &[u8] = include_bytes!("../../../examples/data/flights-20k.jsonl");
const AWKWARD: &[u8] = include_bytes!("../../../examples/data/awkward.jsonl");

/// Lines of any origin.
pub(super) type Input = Box<dyn BufRead + Send>;

/// Opens what was asked for.
pub(super) fn open(input: Option<&Path>) -> Result<Input, Failure> {
    let Some(path) = input else { return Ok(Box::new(FLIGHTS.chain(AWKWARD))) };
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let unusable = |problem: String| Failure::configuration(format!("--input {} {problem}", path.display()));
    let file = File::open(path).map_err(|error| unusable(format!("cannot be opened: {error}")))?;
    let metadata = file.metadata().map_err(|error| unusable(format!("cannot be opened: {error}")))?;
    if metadata.is_dir() {
        return Err(unusable("is a folder; give a file of lines".to_owned()));
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Err(unusable("is empty; give a file with at least one line".to_owned()));
    }
    Ok(Box::new(BufReader::with_capacity(1 << 18, file)))
}
