//! Where the headers of a record go.
//!
//! A message's headers are text, one of a name and in no order; a record's are bytes or nothing at all, as many of a name
//! as the producer likes, in an order. So what does not fit goes to user metadata, with its place among all headers.

use bytes::{Bytes, BytesMut};
use numaflow_sdk::source::{EncodedMessage, MessageRef, MetadataGroup};

use super::Header;

/// The user metadata group of headers that are not text or not the only ones of their name: by `place/name`, with the
/// place counted from 0.
pub(super) const KAFKA_HEADERS: &str = "kafka-headers";
/// The same of headers without a value.
pub(super) const KAFKA_NULL_HEADERS: &str = "kafka-null-headers";

/// Encodes a message with the headers of its record and with those that are `added`, beside the user metadata that it has.
/// A header of the record that has the name of an added one goes to user metadata.
pub(super) fn encode(
    message: MessageRef<'_>,
    headers: &[Header<'_>],
    added: &[(&str, &str)],
    metadata: &[MetadataGroup<'_>],
    buffer: &mut BytesMut,
) -> EncodedMessage {
    let names = Names::of(headers);
    let mut text = Vec::with_capacity(headers.len() + added.len());
    let (mut placed, mut null) = (Vec::new(), Vec::new());
    for (place, Header { name, value }) in headers.iter().enumerate() {
        let is_added = added.iter().any(|(added, _)| added == name);
        let repeated = if is_added { Repeated::Later } else { names.repeated(place) };
        let as_text = value.and_then(|value| str::from_utf8(value).ok());
        if let Some(value) = as_text
            && repeated != Repeated::Later
        {
            text.push((&**name, value));
        }
        match value {
            Some(_) if as_text.is_some() && repeated == Repeated::Not => {}
            Some(value) => placed.push((placed_name(place, name), *value)),
            None => null.push((placed_name(place, name), &[][..])),
        }
    }
    text.extend(added);
    let message = message.with_headers(&text);
    if placed.is_empty() && null.is_empty() {
        return message.with_user_metadata(metadata).encode(buffer);
    }
    let (placed, null) = (borrowed(&placed), borrowed(&null));
    let of_headers = [MetadataGroup::new(KAFKA_HEADERS, &placed), MetadataGroup::new(KAFKA_NULL_HEADERS, &null)];
    let of_headers = of_headers.into_iter().filter(|group| !group.is_empty());
    let metadata: Vec<_> = metadata.iter().copied().chain(of_headers).collect();
    message.with_user_metadata(&metadata).encode(buffer)
}

fn borrowed<'a>(entries: &'a [(String, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    entries.iter().map(|(name, value)| (&**name, *value)).collect()
}

fn placed_name(place: usize, name: &str) -> String {
    format!("{place}/{name}")
}

/// The headers of a message and those that went to user metadata, in the order that they had in the record.
pub(super) fn in_order<'a>(
    text: impl Iterator<Item = (&'a str, &'a str)>,
    placed: impl Iterator<Item = (&'a str, Option<&'a Bytes>)>,
) -> Vec<(String, Option<Bytes>)> {
    let mut placed: Vec<_> = placed
        .filter_map(|(key, value)| {
            let (place, name) = key.split_once('/')?;
            Some((place.parse::<usize>().ok()?, name, value.cloned()))
        })
        .collect();
    placed.sort_unstable_by_key(|(place, ..)| *place);
    let mut names: Vec<_> = placed.iter().map(|(_, name, _)| *name).collect();
    names.sort_unstable();
    let alone = text.filter(|(name, _)| names.binary_search(name).is_err());
    let mut alone = alone.map(|(name, value)| (name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
    let mut headers = Vec::new();
    for (place, name, value) in placed {
        let before = place.saturating_sub(headers.len());
        headers.extend(alone.by_ref().take(before));
        headers.push((name.to_owned(), value));
    }
    headers.extend(alone);
    headers
}

/// Whether a header's name is there more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    Not,
    /// This one is the last.
    Before,
    Later,
}

/// Up to so many headers are compared each with each, which for a handful is quickest.
const FEW: usize = 8;

/// The names of headers.
struct Names<'a> {
    headers: &'a [Header<'a>],
    /// The names with their places, sorted, where there are more than a few: there may be a hundred thousand.
    sorted: Vec<(&'a str, usize)>,
}

impl<'a> Names<'a> {
    fn of(headers: &'a [Header<'a>]) -> Self {
        let mut sorted = Vec::new();
        if headers.len() > FEW {
            sorted.extend(headers.iter().enumerate().map(|(place, header)| (&*header.name, place)));
            sorted.sort_unstable();
        }
        Self { headers, sorted }
    }

    fn repeated(&self, place: usize) -> Repeated {
        let name = &*self.headers[place].name;
        let (count, last) = if self.sorted.is_empty() {
            let same = self.headers.iter().enumerate().filter(|(_, header)| header.name == name);
            same.fold((0, place), |(count, _), (place, _)| (count + 1, place))
        } else {
            let same = &self.sorted[self.sorted.partition_point(|(other, _)| *other < name)..];
            let same = &same[..same.partition_point(|(other, _)| *other == name)];
            (same.len(), same.last().map_or(place, |(_, place)| *place))
        };
        match count {
            0 | 1 => Repeated::Not,
            _ if last == place => Repeated::Before,
            _ => Repeated::Later,
        }
    }
}
