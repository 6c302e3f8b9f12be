//! `source.v1.AckRequest` and `source.v1.NackRequest` from their bytes.
//!
//! An offset takes 40 bytes in memory, and two bytes may be enough for it on the wire. So a request is checked and its
//! offsets are counted first, which allocates nothing. The offsets are made later, in parts of a bounded size, when there is
//! room for a part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::NackOptions;
use crate::field::read::{
    BYTES_1, BYTES_2, BYTES_4, DecodeError, INTEGER_2, INTEGER_3, Room, Shape, each_field, halves, merge_flag,
    read_bytes, read_entry, read_text, read_varint, skip, skip_unknown,
};
use crate::source::{NackOffset, Offset};

/// The most bytes of memory that the offsets of a part take, but for those of the last one's options: far more than the
/// offsets of any batch of the platform (500 messages by default, 20 KiB).
const PART: usize = 4 << 20;
/// What the options of a nack take besides their texts, roughly.
const OPTIONS: usize = size_of::<NackOptions>() + 32;
/// What a hint takes besides its texts: two allocations and its places in the table, also while the table grows. Roughly.
const HINT: usize = 256;

static ACK_REQUEST: Shape = Shape { name: "AckRequest", fields: &["request", "handshake"], levels: 100 };
static ACKS: Shape = Shape { name: "AckRequest.request", fields: &["offsets"], levels: 99 };
static HANDSHAKE: Shape = Shape { name: "AckRequest.handshake", fields: &["sot"], levels: 99 };
static NACK_REQUEST: Shape = Shape { name: "NackRequest", fields: &["request"], levels: 100 };
static NACKS: Shape = Shape { name: "NackRequest.request", fields: &["offsets", "nack_options"], levels: 99 };
static OFFSET: Shape = Shape { name: "Offset", fields: &["offset", "partition_id"], levels: 98 };
static NACK_OPTIONS: Shape =
    Shape { name: "NackOptions", fields: &["reason", "max_deliveries", "delay", "nack_map"], levels: 98 };
static HINTS: Shape = Shape { name: "NackOptions.nack_map", fields: &["key", "value"], levels: 97 };

/// What a `source.v1.AckRequest` holds.
#[derive(Debug)]
pub(in crate::source) struct AckRequest {
    /// `handshake.sot`, where there is a handshake.
    pub(in crate::source) handshake: Option<bool>,
    /// The offsets, where there is a request.
    pub(in crate::source) acks: Option<Acks>,
}

/// The offsets of a request that was checked, as far as they have not been taken. Where one is, the field that it lies in
/// (a group) and the rest of the request follow one another, so two lengths tell the place.
#[derive(Debug)]
struct Offsets {
    request: Bytes,
    /// The bytes of the groups that were not begun, at the end of the request.
    groups: usize,
    /// What is left of the group at hand, before them.
    group: usize,
    /// How many are left.
    count: usize,
}

impl Offsets {
    fn new(request: Bytes, count: usize) -> Self {
        Self { groups: request.len(), group: 0, count, request }
    }

    fn first(&self) -> Option<Offset> {
        let (mut group, mut groups) = self.rest();
        loop {
            if let Some(offset) = next_message(&mut group) {
                return Some(make_offset(&self.request, offset));
            }
            group = next_message(&mut groups)?;
        }
    }

    /// What is left of the group at hand, and the groups behind it.
    fn rest(&self) -> (&[u8], &[u8]) {
        self.request[self.request.len() - self.groups - self.group..].split_at(self.group)
    }

    /// Takes offsets, and tells of each group that is begun, until `wants_more` says no or none is left.
    fn take<T>(
        &mut self,
        taken: &mut T,
        wants_more: impl Fn(&T) -> bool,
        mut begin: impl FnMut(&mut T, &[u8]),
        mut put: impl FnMut(&mut T, Offset),
    ) {
        let (mut group, mut groups) = self.rest();
        let mut count = self.count;
        while wants_more(taken) && count > 0 {
            if let Some(offset) = next_message(&mut group) {
                count -= 1;
                put(taken, make_offset(&self.request, offset));
            } else if let Some(next) = next_message(&mut groups) {
                begin(taken, next);
                group = next;
            } else {
                break;
            }
        }
        (self.group, self.groups, self.count) = (group.len(), groups.len(), count);
        if count == 0 {
            // Only long offsets keep it.
            *self = Self::new(Bytes::new(), 0);
        }
    }
}

/// The content of the next field with number 1, in a message that was checked.
fn next_message<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    while !input.is_empty() {
        match read_varint(input).ok()? {
            BYTES_1 => return read_bytes(input).ok(),
            key => skip(key, input, ACK_REQUEST.levels).ok()?,
        }
    }
    None
}

/// The offsets of an ack that was checked, as far as they have not been taken.
#[derive(Debug)]
pub(in crate::source) struct Acks {
    offsets: Offsets,
}

impl Acks {
    /// The first one that is left.
    pub(in crate::source) fn first(&self) -> Option<Offset> {
        self.offsets.first()
    }

    /// How many are left.
    pub(in crate::source) fn count(&self) -> usize {
        self.offsets.count
    }

    /// The most bytes of memory that a part takes besides the request.
    pub(in crate::source) fn cost(&self) -> usize {
        self.count().saturating_mul(size_of::<Offset>()).min(PART)
    }

    /// The next part; empty where none is left.
    pub(in crate::source) fn take(&mut self) -> Vec<Offset> {
        self.take_up_to(PART)
    }

    fn take_up_to(&mut self, bytes: usize) -> Vec<Offset> {
        let most = self.count().min(bytes / size_of::<Offset>());
        let mut part = Vec::with_capacity(most);
        self.offsets.take(&mut part, |part| part.len() < most, |_, _| {}, Vec::push);
        part
    }
}

/// The offsets of a nack that was checked, as far as they have not been taken.
#[derive(Debug)]
pub(in crate::source) struct Nacks {
    offsets: Offsets,
    /// Those of the group at hand.
    options: Arc<NackOptions>,
    /// Those of groups that have none.
    no_options: Arc<NackOptions>,
    /// What all options take, and those of the group that has most.
    all_options: usize,
    largest_options: usize,
}

/// A part that is being taken.
struct NackPart {
    nacks: Vec<NackOffset>,
    options: Arc<NackOptions>,
    left: usize,
}

impl Nacks {
    /// The first one that is left.
    pub(in crate::source) fn first(&self) -> Option<Offset> {
        self.offsets.first()
    }

    /// How many are left.
    pub(in crate::source) fn count(&self) -> usize {
        self.offsets.count
    }

    /// The most bytes of memory that a part takes besides the request.
    pub(in crate::source) fn cost(&self) -> usize {
        let offsets = self.count().saturating_mul(size_of::<NackOffset>());
        offsets.saturating_add(self.all_options).min(PART.saturating_add(self.largest_options))
    }

    /// The next part; empty where none is left.
    pub(in crate::source) fn take(&mut self) -> Vec<NackOffset> {
        self.take_up_to(PART)
    }

    fn take_up_to(&mut self, bytes: usize) -> Vec<NackOffset> {
        let most = self.count().min(bytes / size_of::<NackOffset>());
        let no_options = self.no_options.clone();
        let mut part = NackPart { nacks: Vec::with_capacity(most), options: self.options.clone(), left: bytes };
        let begin = |part: &mut NackPart, group: &[u8]| {
            let (options, cost) = make_options(group);
            part.options = options.unwrap_or_else(|| no_options.clone());
            part.left = part.left.saturating_sub(cost);
        };
        let put = |part: &mut NackPart, offset| {
            part.nacks.push(NackOffset::new(offset, part.options.clone()));
            part.left = part.left.saturating_sub(size_of::<NackOffset>());
        };
        // At least one, whatever its options take.
        let wants_more = |part: &NackPart| part.nacks.is_empty() || part.left > 0 && part.nacks.len() < most;
        self.offsets.take(&mut part, wants_more, begin, put);
        self.options = part.options;
        part.nacks
    }
}

/// Checks an `AckRequest` that lies in `buffer`, and counts its offsets. Fields may come in any order and any number of
/// times: messages are merged, the last scalar counts. Unknown fields are skipped.
///
/// # Errors
///
/// When the bytes are not protobuf, or a known field has another type.
pub(in crate::source) fn decode_ack(buffer: &Bytes, message: &[u8]) -> Result<AckRequest, DecodeError> {
    let mut handshake = None;
    let mut count = None;
    each_field(message, &ACK_REQUEST, |key, input| match key {
        BYTES_1 => {
            let count = count.get_or_insert(0);
            each_field(read_bytes(input)?, &ACKS, |key, input| match key {
                BYTES_1 => {
                    *count += 1;
                    check_offset(read_bytes(input)?)
                }
                key => skip_unknown(key, input, &ACKS),
            })
        }
        BYTES_2 => merge_flag(read_bytes(input)?, &HANDSHAKE, handshake.get_or_insert_default()),
        key => skip_unknown(key, input, &ACK_REQUEST),
    })?;
    let acks = count.map(|count| Acks { offsets: Offsets::new(buffer.slice_ref(message), count) });
    Ok(AckRequest { handshake, acks })
}

/// As [`decode_ack`], for a `NackRequest`.
///
/// # Errors
///
/// Also when a text is not UTF-8, or an element has more than 65,536 hints.
pub(in crate::source) fn decode_nack(buffer: &Bytes, message: &[u8]) -> Result<Nacks, DecodeError> {
    let (mut count, mut all_options, mut largest_options) = (0, 0_usize, 0);
    each_field(message, &NACK_REQUEST, |key, input| match key {
        BYTES_1 => {
            let group = read_bytes(input)?;
            let mut options = OptionsCost::default();
            each_field(group, &NACKS, |key, input| match key {
                BYTES_1 => {
                    count += 1;
                    check_offset(read_bytes(input)?)
                }
                BYTES_2 => each_option(read_bytes(input)?, |option| options.add(&option)),
                key => skip_unknown(key, input, &NACKS),
            })?;
            all_options = all_options.saturating_add(options.bytes);
            largest_options = largest_options.max(options.bytes);
            Ok(())
        }
        key => skip_unknown(key, input, &NACK_REQUEST),
    })?;
    let offsets = Offsets::new(buffer.slice_ref(message), count);
    let no_options: Arc<NackOptions> = Arc::default();
    Ok(Nacks { offsets, options: no_options.clone(), no_options, all_options, largest_options })
}

fn check_offset(input: &[u8]) -> Result<(), DecodeError> {
    each_part_of_offset(input, |_| {})
}

/// The offset in a request that was checked.
fn make_offset(request: &Bytes, input: &[u8]) -> Offset {
    let (mut bytes, mut partition_id) = (&[][..], 0);
    let read = each_part_of_offset(input, |part| match part {
        OffsetPart::Bytes(part) => bytes = part,
        OffsetPart::PartitionId(part) => partition_id = part,
    });
    debug_assert!(read.is_ok(), "the request was checked");
    Offset::slice_of(request, bytes, partition_id)
}

enum OffsetPart<'a> {
    Bytes(&'a [u8]),
    PartitionId(i32),
}

fn each_part_of_offset<'a>(input: &'a [u8], mut visit: impl FnMut(OffsetPart<'a>)) -> Result<(), DecodeError> {
    each_field(input, &OFFSET, |key, input| match key {
        BYTES_1 => {
            visit(OffsetPart::Bytes(read_bytes(input)?));
            Ok(())
        }
        INTEGER_2 => {
            let [partition_id, _] = halves(read_varint(input)?);
            visit(OffsetPart::PartitionId(partition_id.cast_signed()));
            Ok(())
        }
        key => skip_unknown(key, input, &OFFSET),
    })
}

/// One field of `NackOptions`.
enum NackOption<'a> {
    Reason(&'a str),
    MaxDeliveries(u32),
    Delay(u64),
    Hint(&'a str, &'a str),
}

fn each_option<'a>(
    input: &'a [u8],
    mut visit: impl FnMut(NackOption<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    each_field(input, &NACK_OPTIONS, |key, input| match key {
        BYTES_1 => visit(NackOption::Reason(read_text(input)?)),
        INTEGER_2 => {
            let [deliveries, _] = halves(read_varint(input)?);
            visit(NackOption::MaxDeliveries(deliveries))
        }
        INTEGER_3 => visit(NackOption::Delay(read_varint(input)?)),
        BYTES_4 => {
            let (name, value) = read_entry(read_bytes(input)?, &HINTS)?;
            visit(NackOption::Hint(name, value))
        }
        key => skip_unknown(key, input, &NACK_OPTIONS),
    })
}

/// What the options of one group take in memory, roughly and at most; they are counted field by field.
#[derive(Default)]
struct OptionsCost {
    bytes: usize,
    hints: Room,
}

impl OptionsCost {
    /// # Errors
    ///
    /// When there are too many hints.
    fn add(&mut self, option: &NackOption<'_>) -> Result<(), DecodeError> {
        let bytes = match option {
            NackOption::Reason(reason) => reason.len(),
            NackOption::MaxDeliveries(_) | NackOption::Delay(_) => 0,
            NackOption::Hint(name, value) => {
                self.hints.take("hints of a nack")?;
                HINT + name.len() + value.len()
            }
        };
        self.bytes = self.bytes.max(OPTIONS).saturating_add(bytes);
        Ok(())
    }
}

/// The options of a group in a request that was checked, merged from all its fields of options, and what they take. `None`
/// where it has none, which costs nothing.
fn make_options(group: &[u8]) -> (Option<Arc<NackOptions>>, usize) {
    let mut cost = OptionsCost::default();
    let (mut reason, mut max_deliveries, mut delay, mut hints) = (None, None, None, HashMap::new());
    let read = each_field(group, &NACKS, |key, input| match key {
        BYTES_1 => Ok(read_bytes(input).map(drop)?),
        BYTES_2 => each_option(read_bytes(input)?, |option| {
            cost.add(&option)?;
            match option {
                NackOption::Reason(text) => reason = Some(text),
                NackOption::MaxDeliveries(deliveries) => max_deliveries = Some(deliveries),
                NackOption::Delay(millis) => delay = Some(Duration::from_millis(millis)),
                NackOption::Hint(name, value) => drop(hints.insert(name.to_owned(), value.to_owned())),
            }
            Ok(())
        }),
        key => skip_unknown(key, input, &NACKS),
    });
    debug_assert!(read.is_ok(), "the request was checked");
    if cost.bytes == 0 {
        return (None, 0);
    }
    let options = NackOptions { reason: reason.map(str::to_owned), max_deliveries, delay, hints };
    (Some(Arc::new(options)), cost.bytes)
}

#[cfg(test)]
mod tests;
