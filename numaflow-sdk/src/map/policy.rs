//! What becomes of a message whose handler failed: the server's policy, or the answer that the error brings along.
//!
//! A failure is first tried again as [`Retry`](super::Retry) says, unless the error is terminal or brings its own answer.
//! What follows depends on the policy, and on whether an output of the same message has left, which happens in stream
//! mode only. An output that has left cannot be taken back: from then on nothing is tried again here, and whatever makes
//! the platform send the message again makes these outputs twice.
//!
//! | Policy | Unary, batch, and stream before the first output | Stream, after an output |
//! | --- | --- | --- |
//! | `Fail` | no answer; the stream ends with a status, and the message is sent again | the same; the outputs come twice |
//! | `Nack` | one empty nack; the source delivers the message again | the same; the outputs come twice |
//! | `Drop` | one empty drop; the message is lost | no further output; the outputs stay, the rest is lost |
//! | `DeadLetter` | the input, tagged | the input, tagged, behind the outputs |
//! | `FailTag` | one empty fail; the platform sends the message again | the same; the outputs come twice |
//!
//! An answer is the last one of its id, before the end of transmission that stream mode has: what followed a fail would
//! be taken for the answer to the next attempt (protocol: FAIL retry). In batch mode the platform sends the whole batch
//! again when its stream ends, so that a message that always fails keeps its batch from ever being completed by `Fail`.

use std::fmt;
use std::str::FromStr;

use super::Retry;
use crate::error::{TEXT_CAP, chain, one_line};
use crate::panic::Panic;
use crate::{HandlerError, MapRequest, Message, Messages, NackOptions, metrics, parse_duration};

/// The group of the user metadata that a dead letter carries.
const GROUP: &str = "numaflow-sdk";
/// How the platform's reserved tags begin (protocol: reserved tags).
const RESERVED: &str = "U+005C__";

/// What becomes of a message whose handler returns an error or panics, once it is not tried again.
///
/// As text, for flags and the environment: `fail`, `drop`, `nack`, `nack:5s`, `dead-letter:TAG`, `fail-tag`.
///
/// ```
/// use std::time::Duration;
/// use numaflow_sdk::{NackOptions, map::FailurePolicy};
///
/// let policy: FailurePolicy = "nack:5s".parse()?;
/// assert_eq!(policy, FailurePolicy::Nack(NackOptions::new().with_delay(Duration::from_secs(5))));
/// assert_eq!(policy.to_string(), "nack:5s");
/// assert_eq!(FailurePolicy::default(), FailurePolicy::Fail);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailurePolicy {
    /// The stream answers what it can for a moment, then ends with a status, and the platform sends again what was not
    /// answered: for ever, if nobody mends the map or the message. Loses nothing, which is why it is the default. In batch
    /// mode the batch that holds such a message is never completed.
    ///
    /// For any platform. One up to 1.8.3 nacks what was not answered, ends its own process and is restarted.
    #[default]
    Fail,
    /// The source is asked to deliver the message again, by these options; a reason that they lack is the error's text.
    /// Loses nothing if the source honours a nack; the platform's built-in Kafka source does not, and the message is lost.
    ///
    /// For platform 1.8.2 and later. An older one takes the nack for an output: an empty message tagged
    /// `U+005C__NACK__` goes on, and the input is lost.
    Nack(NackOptions),
    /// The message counts as handled, and nothing goes on. Loses the message.
    ///
    /// For any platform.
    Drop,
    /// The input goes on as it is (keys, value, user metadata) with this tag, by which an edge of the pipeline can send it
    /// aside. Loses nothing where an edge takes the tag. The error's text is in the user metadata `numaflow-sdk` /
    /// `error`; after a panic its place, where it is known, is in `numaflow-sdk` / `panic`.
    ///
    /// For any platform.
    DeadLetter {
        /// The tag; neither empty nor one of the platform's own.
        tag: String,
    },
    /// The platform sends the message again by the `retryStrategy` of the vertex, and at once and for ever where there is
    /// none. Loses the message where that strategy says `onFailure: drop`, and nothing otherwise.
    ///
    /// For platforms later than 1.8.3. An older one takes the fail for an output: an empty message tagged
    /// `U+005C__FAIL__` goes on, and the input is lost.
    FailTag,
}

impl FailurePolicy {
    /// What is wrong with the policy, in the words of [`ServeError::Option`](crate::ServeError::Option).
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::DeadLetter { tag } => check_tag(tag),
            Self::Fail | Self::Nack(_) | Self::Drop | Self::FailTag => Ok(()),
        }
    }

    /// What the policy needs of the platform, in words: a server prints them when it starts.
    #[must_use]
    pub const fn platform(&self) -> &'static str {
        match self {
            Self::Fail => "any platform; up to 1.8.3 its process ends with the stream and is restarted",
            Self::Nack(_) => "platform 1.8.2 and later; an older one loses the message",
            Self::Drop | Self::DeadLetter { .. } => "any platform",
            Self::FailTag => "platforms later than 1.8.3; an older one loses the message",
        }
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    if tag.is_empty() {
        Err("has no tag; give one that an edge of the pipeline takes, such as dead-letter:bad".to_owned())
    } else if tag.starts_with(RESERVED) {
        Err(format!("has the tag {tag:?}, and tags that begin with {RESERVED} are the platform's own; choose another"))
    } else {
        Ok(())
    }
}

impl FromStr for FailurePolicy {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong with the text, and the choices there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let policy = match (name, argument) {
            ("fail", None) => Self::Fail,
            ("nack", None) => Self::Nack(NackOptions::new()),
            ("nack", Some(delay)) => Self::Nack(NackOptions::new().with_delay(parse_duration(delay)?)),
            ("drop", None) => Self::Drop,
            ("dead-letter", tag) => Self::DeadLetter { tag: tag.unwrap_or_default().to_owned() },
            ("fail-tag", None) => Self::FailTag,
            _ => {
                return Err(format!(
                    "is {text:?}; give fail, drop, nack, nack:DELAY (such as nack:5s), dead-letter:TAG or fail-tag"
                ));
            }
        };
        policy.check()?;
        Ok(policy)
    }
}

/// The text that makes this policy; of a nack's options it has the delay only.
impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Nack(options) => match options.delay.map(|delay| delay.as_millis()) {
                None | Some(0) => f.write_str("nack"),
                Some(millis) if millis % 60_000 == 0 => write!(f, "nack:{}m", millis / 60_000),
                Some(millis) if millis % 1000 == 0 => write!(f, "nack:{}s", millis / 1000),
                Some(millis) => write!(f, "nack:{millis}ms"),
            },
            Self::Drop => f.write_str("drop"),
            Self::DeadLetter { tag } => write!(f, "dead-letter:{tag}"),
            Self::FailTag => f.write_str("fail-tag"),
        }
    }
}

/// How a handler failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It returned an error.
    Error(HandlerError),
    /// It panicked.
    Panic(Panic),
}

impl Failure {
    pub(super) fn kind(&self) -> metrics::Failure {
        match self {
            Self::Error(_) => metrics::Failure::Error,
            Self::Panic(_) => metrics::Failure::Panic,
        }
    }

    /// The error and its causes, or the panic's message, in one line of bounded length.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Error(error) => one_line(&chain(error.as_error()), TEXT_CAP),
            Self::Panic(panic) => one_line(panic.message(), TEXT_CAP),
        }
    }

    /// The message that an error brings along for its dead letter.
    pub(crate) fn brought_input(&self) -> Option<&MapRequest> {
        match self {
            Self::Error(error) => error.brought_input(),
            Self::Panic(_) => None,
        }
    }

    /// Whether the message may be tried again here. `output_left` says whether an output of it has left, in stream mode.
    pub(crate) fn may_retry(&self, output_left: bool) -> bool {
        let terminal = match self {
            Self::Error(error) => error.is_terminal(),
            Self::Panic(_) => false,
        };
        !terminal && !output_left
    }
}

/// What the engine does about a failure.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// These are the message's last outputs; what follows them is the end of transmission, in stream mode.
    Answer(Messages),
    /// The message is not answered, and its stream will end with the failure's status.
    EndStream,
}

/// Whether the engine must keep a copy of each request it gives away: to try it again, or as a dead letter. A dead letter
/// that an error brings along is with the error.
pub(crate) fn needs_input(policy: &FailurePolicy, retry: &Retry) -> bool {
    retry.is_some() || matches!(policy, FailurePolicy::DeadLetter { .. })
}

/// What becomes of a message that is not tried again. `input` is the message, as the error brought it along or as
/// [`needs_input`] asked for it; `output_left` says whether an output of it has left, in stream mode.
pub(crate) fn resolve(
    policy: &FailurePolicy,
    failure: &Failure,
    input: Option<MapRequest>,
    output_left: bool,
) -> Resolution {
    let policy = match failure {
        Failure::Error(error) => error.policy().unwrap_or(policy),
        Failure::Panic(_) => policy,
    };
    match policy {
        FailurePolicy::Fail => Resolution::EndStream,
        FailurePolicy::Nack(options) => {
            let mut options = options.clone();
            options.reason.get_or_insert_with(|| failure.text());
            Resolution::Answer(Message::to_nack(options).into())
        }
        // A drop discards the output that is tagged, and those that left count.
        FailurePolicy::Drop if output_left => Resolution::Answer(Messages::none()),
        FailurePolicy::Drop => Resolution::Answer(Message::to_drop().into()),
        FailurePolicy::DeadLetter { tag } => match input {
            Some(input) => Resolution::Answer(dead_letter(input, tag, failure).into()),
            // Without the input there is nothing to put aside, and nothing may be lost.
            None => Resolution::EndStream,
        },
        FailurePolicy::FailTag => Resolution::Answer(Message::to_fail().into()),
    }
}

fn dead_letter(input: MapRequest, tag: &str, failure: &Failure) -> Message {
    let mut metadata = input.user_metadata().clone();
    metadata.insert(GROUP, "error", failure.text());
    if let Failure::Panic(panic) = failure
        && let Some(location) = panic.location()
    {
        metadata.insert(GROUP, "panic", location.to_owned());
    }
    input.into_message().with_tags([tag]).with_user_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::UserMetadata;
    use crate::panic::{catch, install_hook};

    fn error(text: &str) -> Failure {
        Failure::Error(HandlerError::new(text))
    }

    async fn panicked() -> Failure {
        install_hook();
        let panic = catch(async { panic!("the poison\nwas taken") }).await;
        let Err(panic) = panic.map(|(): ()| ()) else { unreachable!("it panics") };
        Failure::Panic(panic)
    }

    fn input() -> MapRequest {
        let mut metadata = UserMetadata::new();
        metadata.insert("trace", "id", "7");
        MapRequest::new("value").with_keys(["k", "l"]).with_user_metadata(metadata)
    }

    fn nack() -> FailurePolicy {
        FailurePolicy::Nack(NackOptions::new().with_max_deliveries(3))
    }

    fn dead_letter() -> FailurePolicy {
        FailurePolicy::DeadLetter { tag: "bad".to_owned() }
    }

    fn every_policy() -> [FailurePolicy; 5] {
        [FailurePolicy::Fail, nack(), FailurePolicy::Drop, dead_letter(), FailurePolicy::FailTag]
    }

    /// The only output of an answer; `None` where there is none.
    fn only(resolution: Resolution) -> Option<crate::pb::map::v1::map_response::Result> {
        let Resolution::Answer(messages) = resolution else { panic!("{resolution:?} is no answer") };
        let mut results = messages.into_wire();
        assert!(results.len() <= 1, "{results:?}");
        results.pop()
    }

    /// The table in the module's documentation, one cell a line.
    #[tokio::test]
    async fn every_cell_of_the_table() {
        for failure in [error("the lookup failed"), panicked().await] {
            for output_left in [false, true] {
                let resolve = |policy| resolve(&policy, &failure, Some(input()), output_left);
                assert!(matches!(resolve(FailurePolicy::Fail), Resolution::EndStream));
                let nacked = only(resolve(nack())).unwrap();
                assert_eq!(
                    (nacked.tags, nacked.nack_options.unwrap().max_deliveries),
                    (tags(&Message::to_nack), Some(3))
                );
                assert!(nacked.value.is_empty() && nacked.keys.is_empty() && nacked.metadata.is_none());
                let dropped = only(resolve(FailurePolicy::Drop)).map(|result| result.tags);
                assert_eq!(dropped, (!output_left).then(|| Message::to_drop().tags().to_vec()));
                let dead = only(resolve(dead_letter())).unwrap();
                assert_eq!((&dead.value[..], dead.tags, dead.keys), (&b"value"[..], text(["bad"]), text(["k", "l"])));
                let failed = only(resolve(FailurePolicy::FailTag)).unwrap();
                assert_eq!(failed.tags, Message::to_fail().tags());
                assert!(failed.value.is_empty() && failed.keys.is_empty() && failed.metadata.is_none());
            }
        }
    }

    fn tags(message: &dyn Fn(NackOptions) -> Message) -> Vec<String> {
        message(NackOptions::new()).tags().to_vec()
    }

    fn text<const N: usize>(words: [&str; N]) -> Vec<String> {
        words.map(str::to_owned).to_vec()
    }

    #[test]
    fn nothing_is_tried_again_after_an_output_or_a_terminal_error() {
        assert!(error("a hiccup").may_retry(false));
        assert!(!error("a hiccup").may_retry(true));
        let terminal = [
            HandlerError::new("no").terminal(),
            HandlerError::new("no").fail(),
            HandlerError::new("no").drop().terminal(),
            HandlerError::new("no").nack(NackOptions::new()),
        ];
        for error in terminal {
            assert!(!Failure::Error(error).may_retry(false));
        }
    }

    #[tokio::test]
    async fn a_panic_is_tried_again_before_an_output_only() {
        let failure = panicked().await;
        assert!(failure.may_retry(false));
        assert!(!failure.may_retry(true));
    }

    /// Each answer against each policy: the answer that it would have been as the policy.
    #[test]
    fn an_errors_own_answer_wins() {
        for policy in every_policy() {
            for own in every_policy() {
                let failure = Failure::Error(HandlerError::new("no").answered(own.clone(), Some(input())));
                let resolved = resolve(&policy, &failure, failure.brought_input().cloned(), false);
                let expected = resolve(&own, &error("no"), Some(input()), false);
                assert_eq!(wire(resolved), wire(expected), "{own} under {policy}");
            }
            let failure = Failure::Error(HandlerError::new("no").terminal());
            let resolved = wire(resolve(&policy, &failure, Some(input()), false));
            assert_eq!(resolved, wire(resolve(&policy, &error("no"), Some(input()), false)), "terminal under {policy}");
        }
    }

    fn wire(resolution: Resolution) -> Option<Vec<crate::pb::map::v1::map_response::Result>> {
        match resolution {
            Resolution::Answer(messages) => Some(messages.into_wire()),
            Resolution::EndStream => None,
        }
    }

    #[test]
    fn a_nack_says_why() {
        let reason =
            |policy, failure| only(resolve(&policy, &failure, None, false)).unwrap().nack_options.unwrap().reason;
        assert_eq!(reason(nack(), error("no\nroute")).as_deref(), Some("no route"));
        let long = reason(nack(), error(&"ü".repeat(1 << 20))).unwrap();
        assert!(long.starts_with("üü") && long.len() <= TEXT_CAP);
        let told = FailurePolicy::Nack(NackOptions::new().with_reason("later"));
        assert_eq!(reason(told, error("no route")).as_deref(), Some("later"));
    }

    #[tokio::test]
    async fn a_dead_letter_says_why_beside_what_it_had() {
        let metadata = |failure| {
            let result = only(resolve(&dead_letter(), &failure, Some(input()), false)).unwrap();
            let metadata = crate::metadata::Metadata::from(result.metadata.unwrap()).user;
            assert_eq!(metadata.get("trace", "id").unwrap(), "7");
            metadata
        };
        let erred = metadata(error("no\nroute"));
        assert_eq!(erred.get(GROUP, "error").unwrap(), "no route");
        assert_eq!(erred.get(GROUP, "panic"), None);
        let panicked = metadata(panicked().await);
        assert_eq!(panicked.get(GROUP, "error").unwrap(), "the poison was taken");
        let location = String::from_utf8(panicked.get(GROUP, "panic").unwrap().to_vec()).unwrap();
        assert!(location.contains("policy.rs:"), "{location}");
    }

    #[test]
    fn an_input_is_kept_for_what_needs_it() {
        for policy in every_policy() {
            assert!(needs_input(&policy, &Retry::attempts(2)));
            assert_eq!(needs_input(&policy, &Retry::none()), policy == dead_letter());
            let resolution = resolve(&policy, &error("no"), None, false);
            let without = matches!(policy, FailurePolicy::Fail | FailurePolicy::DeadLetter { .. });
            assert_eq!(matches!(resolution, Resolution::EndStream), without, "{policy} without the input");
        }
    }

    #[test]
    fn text_that_is_no_policy_is_told_the_choices() {
        for text in ["", "Fail", "retry", "fail:1", "drop:", "fail-tag:x"] {
            let problem = text.parse::<FailurePolicy>().unwrap_err();
            for choice in [text, "fail,", "drop,", "nack,", "nack:5s", "dead-letter:TAG", "fail-tag"] {
                assert!(problem.contains(choice), "{choice} is missing from: {problem}");
            }
        }
        for (text, word) in [
            ("nack:5", "with its unit"),
            ("dead-letter", "dead-letter:bad"),
            ("dead-letter:", "dead-letter:bad"),
            ("dead-letter:U+005C__DROP__", "the platform's own"),
        ] {
            let problem = text.parse::<FailurePolicy>().unwrap_err();
            assert!(problem.contains(word), "{word} is missing from: {problem}");
        }
    }

    fn any_policy() -> impl Strategy<Value = FailurePolicy> {
        prop_oneof![
            Just(FailurePolicy::Fail),
            Just(FailurePolicy::Drop),
            Just(FailurePolicy::FailTag),
            Just(FailurePolicy::Nack(NackOptions::new())),
            (1..200_000_u64)
                .prop_map(|ms| FailurePolicy::Nack(NackOptions::new().with_delay(Duration::from_millis(ms)))),
            (1..4000_u64)
                .prop_map(|n| FailurePolicy::Nack(NackOptions::new().with_delay(Duration::from_millis(n * 500)))),
            "[^:]{1,3}:?.{0,9}".prop_map(|tag| FailurePolicy::DeadLetter { tag }),
        ]
    }

    proptest! {
        #[test]
        fn what_a_policy_shows_makes_it(policy in any_policy()) {
            prop_assert_eq!(policy.to_string().parse(), Ok(policy));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "(fail|drop|nack|dead-letter|fail-tag)?:?.{0,20}") {
            if let Ok(policy) = text.parse::<FailurePolicy>() {
                prop_assert_eq!(policy.check(), Ok(()));
                prop_assert_eq!(policy.to_string().parse(), Ok(policy));
            }
        }
    }
}
