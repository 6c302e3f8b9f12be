//! The rules of one `MapFn` stream in its three modes, without I/O, time or handlers: what a frame of the peer means, what
//! may be read next, and when the stream is over.

use crate::MapMode;

/// What a frame consists of, as far as the rules care.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    /// It carries a message.
    pub(super) message: bool,
    /// It carries a handshake, with this `sot`.
    pub(super) handshake: Option<bool>,
    /// It carries a status, with this `eot`.
    pub(super) status: Option<bool>,
}

/// What a frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The handshake, to be answered at once.
    Handshake,
    /// A message, to be answered.
    Message,
    /// The batch is complete: what was collected for it can be handled.
    EndOfBatch,
    /// Nothing: a second handshake, an end of transmission where none belongs.
    Nothing,
}

/// What a peer did wrong; ends the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NoHandshake,
    ClosedBeforeHandshake,
    /// A frame that is neither a message nor anything else.
    NothingInIt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Nothing but the handshake may come.
    Handshake,
    Messages,
    /// The batch is complete. Nothing is read before its end is sent, so that batches do not mix.
    BatchEnded,
    /// The peer has closed its side, or the server reads no more.
    Ended,
}

/// Where a stream is.
#[derive(Debug)]
pub(super) struct Core {
    mode: MapMode,
    reading: Reading,
    /// The messages that were read and not answered.
    open: usize,
    /// Those of them that never will be, because the stream ends for them.
    lost: usize,
    /// Whether the server reads no more, also after the batch at hand.
    stopped: bool,
}

impl Core {
    pub(super) fn new(mode: MapMode) -> Self {
        Self { mode, reading: Reading::Handshake, open: 0, lost: 0, stopped: false }
    }

    /// Whether the next frame may be read.
    pub(super) fn reads(&self) -> bool {
        matches!(self.reading, Reading::Handshake | Reading::Messages)
    }

    /// Whether the handshake is still to come. It waits for no limit: the platform has no timeout for it.
    pub(super) fn awaits_handshake(&self) -> bool {
        self.reading == Reading::Handshake
    }

    /// A frame was read.
    pub(super) fn read(&mut self, parts: Parts) -> Result<Meaning, Fault> {
        let Parts { message, handshake, status } = parts;
        match self.reading {
            Reading::Handshake if handshake == Some(true) => {
                self.reading = Reading::Messages;
                Ok(Meaning::Handshake)
            }
            Reading::Handshake => {
                self.reading = Reading::Ended;
                Err(Fault::NoHandshake)
            }
            Reading::Messages if message => {
                self.open += 1;
                Ok(Meaning::Message)
            }
            Reading::Messages if self.mode == MapMode::Batch && status == Some(true) => {
                self.reading = Reading::BatchEnded;
                Ok(Meaning::EndOfBatch)
            }
            Reading::Messages if handshake.is_none() && status.is_none() => {
                self.reading = Reading::Ended;
                Err(Fault::NothingInIt)
            }
            Reading::Messages | Reading::BatchEnded | Reading::Ended => Ok(Meaning::Nothing),
        }
    }

    /// The peer has closed its side.
    pub(super) fn half_closed(&mut self) -> Result<(), Fault> {
        match std::mem::replace(&mut self.reading, Reading::Ended) {
            Reading::Handshake => Err(Fault::ClosedBeforeHandshake),
            Reading::Messages | Reading::BatchEnded | Reading::Ended => Ok(()),
        }
    }

    /// The server reads no more, whatever the peer sends. A batch that is complete still gets its end.
    pub(super) fn stop_reading(&mut self) {
        self.stopped = true;
        if self.reading != Reading::BatchEnded {
            self.reading = Reading::Ended;
        }
    }

    /// So many messages were answered for good.
    pub(super) fn answered(&mut self, messages: usize) {
        self.open -= messages;
    }

    /// So many messages will not be answered: the stream ends before.
    pub(super) fn lost(&mut self, messages: usize) {
        self.lost += messages;
    }

    /// Messages of a batch that never became complete are forgotten: the peer will send them again.
    pub(super) fn forgot(&mut self, messages: usize) {
        self.open -= messages;
    }

    /// Whether the end of the batch is to be sent now; once a batch.
    pub(super) fn take_end_of_batch(&mut self) -> bool {
        let due = self.reading == Reading::BatchEnded && self.open == 0;
        if due {
            self.reading = if self.stopped { Reading::Ended } else { Reading::Messages };
        }
        due
    }

    /// The messages that were read and may still be answered.
    pub(super) fn unanswered(&self) -> usize {
        self.open - self.lost
    }

    /// Whether nothing more can leave: nothing is read, and every answer that may come has come.
    pub(super) fn is_over(&self) -> bool {
        match self.reading {
            Reading::Handshake | Reading::Messages => false,
            // A batch without loss has its end to come.
            Reading::BatchEnded => self.lost > 0 && self.unanswered() == 0,
            Reading::Ended => self.unanswered() == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HANDSHAKE: Parts = Parts { message: false, handshake: Some(true), status: None };
    const MESSAGE: Parts = Parts { message: true, handshake: None, status: None };
    const EOT: Parts = Parts { message: false, handshake: None, status: Some(true) };
    const MODES: [MapMode; 3] = [MapMode::Unary, MapMode::Batch, MapMode::Stream];

    fn open(mode: MapMode) -> Core {
        let mut core = Core::new(mode);
        assert_eq!(core.read(HANDSHAKE), Ok(Meaning::Handshake));
        core
    }

    #[test]
    fn nothing_goes_before_the_handshake() {
        for mode in MODES {
            for first in [MESSAGE, EOT, Parts::default(), Parts { handshake: Some(false), ..HANDSHAKE }] {
                let mut core = Core::new(mode);
                assert_eq!(core.read(first), Err(Fault::NoHandshake));
                assert!(core.is_over());
            }
            assert_eq!(Core::new(mode).half_closed(), Err(Fault::ClosedBeforeHandshake));
        }
    }

    #[test]
    fn a_batch_ends_after_its_last_answer_and_then_the_next_is_read() {
        let mut core = open(MapMode::Batch);
        core.read(MESSAGE).unwrap();
        core.read(MESSAGE).unwrap();
        core.answered(1);
        assert!(!core.take_end_of_batch());
        assert_eq!(core.read(EOT), Ok(Meaning::EndOfBatch));
        assert!(!core.reads() && !core.take_end_of_batch());
        core.answered(1);
        assert!(core.take_end_of_batch() && !core.take_end_of_batch());
        assert!(core.reads());
    }

    #[test]
    fn an_empty_batch_has_an_end_too() {
        let mut core = open(MapMode::Batch);
        assert_eq!(core.read(EOT), Ok(Meaning::EndOfBatch));
        assert!(core.take_end_of_batch());
    }

    #[test]
    fn a_batch_with_a_lost_message_has_no_end() {
        let mut core = open(MapMode::Batch);
        core.read(MESSAGE).unwrap();
        core.lost(1);
        core.read(EOT).unwrap();
        assert!(!core.take_end_of_batch());
        assert!(core.is_over());
    }

    #[test]
    fn a_complete_batch_is_answered_though_nothing_more_is_read() {
        let mut core = open(MapMode::Batch);
        core.read(MESSAGE).unwrap();
        core.read(EOT).unwrap();
        core.stop_reading();
        assert!(!core.is_over());
        core.answered(1);
        assert!(core.take_end_of_batch());
        assert!(core.is_over());
    }

    #[test]
    fn what_belongs_nowhere_means_nothing() {
        for mode in MODES {
            let mut core = open(mode);
            assert_eq!(core.read(HANDSHAKE), Ok(Meaning::Nothing));
            if mode != MapMode::Batch {
                assert_eq!(core.read(EOT), Ok(Meaning::Nothing));
            }
            assert_eq!(core.read(Parts::default()), Err(Fault::NothingInIt));
        }
    }

    proptest! {
        /// Whatever comes in whatever order: a batch's end is sent after as many answers as messages, a stream is over
        /// when all are answered or lost, and nothing panics.
        #[test]
        fn the_count_is_kept(mode in prop::sample::select(&MODES[..]), events in prop::collection::vec(0..6, 0..200)) {
            let mut core = open(mode);
            let (mut read, mut done, mut lost) = (0_usize, 0_usize, 0_usize);
            for event in events {
                match event {
                    0 | 1 if core.reads() => {
                        prop_assert_eq!(core.read(MESSAGE), Ok(Meaning::Message));
                        read += 1;
                    }
                    2 if read > done + lost => {
                        core.answered(1);
                        done += 1;
                    }
                    3 if read > done + lost => {
                        core.lost(1);
                        lost += 1;
                    }
                    4 if core.reads() => {
                        let meaning = if mode == MapMode::Batch { Meaning::EndOfBatch } else { Meaning::Nothing };
                        prop_assert_eq!(core.read(EOT), Ok(meaning));
                    }
                    5 => {
                        let due = core.take_end_of_batch();
                        if due {
                            prop_assert_eq!((read, lost), (done, 0));
                            prop_assert_eq!(mode, MapMode::Batch);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(core.unanswered(), read - done - lost);
            }
            core.half_closed().unwrap();
            prop_assert_eq!(core.is_over(), read == done + lost);
        }
    }
}
