//! What the client library's errors mean: the step that failed, and what to do. Pure, from codes and texts.

use rdkafka::error::RDKafkaErrorCode;

use super::connect::Step;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) step: Step,
    pub(super) reason: String,
    pub(super) advice: String,
    /// It does not mend itself; what is not certain may be a broker that is about to come.
    pub(super) certain: bool,
}

/// What of an error's text is of use to people: what comes after it are times and states of the library.
pub(super) fn told(reason: &str) -> &str {
    reason.split(" (after ").next().unwrap_or(reason)
}

/// The diagnosis that explains these errors best; `tls` and `sasl` are what was asked for. Something listens at the broker's
/// port, as was found before.
pub(super) fn diagnose(errors: &[(RDKafkaErrorCode, String)], tls: bool, sasl: bool) -> Option<Diagnosis> {
    let found = |step, reason: &str, advice: &str, certain| {
        Some(Diagnosis { step, reason: told(reason).to_owned(), advice: advice.to_owned(), certain })
    };
    let by_code = |wanted| errors.iter().find(|(code, _)| *code == wanted).map(|(_, reason)| reason.as_str());
    if let Some(reason) = by_code(RDKafkaErrorCode::Authentication) {
        return found(
            Step::Sasl,
            reason,
            "check user, password and sasl.mechanism, and that the broker offers it",
            true,
        );
    }
    if let Some(reason) = by_code(RDKafkaErrorCode::SSL) {
        return found(Step::Tls, reason, of_tls(reason), true);
    }
    let Some(reason) = by_code(RDKafkaErrorCode::BrokerTransportFailure) else {
        // Of a broker that just hangs up, the library says no more than that there is none left.
        by_code(RDKafkaErrorCode::AllBrokersDown)?;
        let step = if sasl && tls { Step::Sasl } else { Step::Tls };
        return found(step, "the broker hangs up without a word", of_hanging_up(step, tls, sasl), false);
    };
    let lower = reason.to_ascii_lowercase();
    if lower.contains("ssl alert") || lower.contains("ssl handshake") {
        return found(Step::Tls, reason, of_tls(reason), true);
    }
    if lower.contains("in state ssl_handshake") {
        return found(Step::Tls, reason, of_hanging_up(Step::Tls, tls, sasl), false);
    }
    // A broker that was found by its own name for itself is none of those that were reached.
    if !lower.contains("/bootstrap") {
        let advice = "the names that the brokers give themselves (advertised.listeners) must be reached from here too";
        return found(Step::Metadata, reason, advice, false);
    }
    let step = if tls { Step::Sasl } else { Step::Tls };
    found(step, reason, of_hanging_up(step, tls, sasl), false)
}

/// What to do about a broker that closes the connection on this step.
fn of_hanging_up(step: Step, tls: bool, sasl: bool) -> &'static str {
    match (tls, sasl) {
        (false, false) => {
            "the broker may want TLS or a login: set security.protocol to ssl, sasl_ssl or sasl_plaintext"
        }
        (false, true) => "the broker may want TLS: set security.protocol to sasl_ssl",
        (true, _) if step == Step::Tls => {
            "the broker may not speak TLS on this port (check it, or set security.protocol to plaintext or \
             sasl_plaintext), or want a client certificate (ssl.certificate.location and ssl.key.location)"
        }
        (true, false) => {
            "the broker may want a login (sasl_ssl), or a client certificate (ssl.certificate.location and \
             ssl.key.location)"
        }
        (true, true) => "check sasl.mechanism, and whether the broker wants a client certificate or no login at all",
    }
}

/// What to do about a failure of TLS. The texts are OpenSSL's and librdkafka's.
fn of_tls(reason: &str) -> &'static str {
    let lower = reason.to_ascii_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    if has(&["plaintext broker listener", "wrong version number", "not an ssl"]) {
        "the broker does not speak TLS on this port: check the port, or set security.protocol to plaintext or sasl_plaintext"
    } else if has(&["alert"]) {
        "the broker wants a client certificate that it trusts: set ssl.certificate.location and ssl.key.location"
    } else if has(&["hostname", "ip address mismatch", "does not match"]) {
        "the certificate is for another name: give the brokers by a name that is in it"
    } else if has(&["expired"]) {
        "renew the certificate, or check this machine's clock"
    } else if has(&["certificate verify failed", "self-signed", "unable to get"]) {
        "set ssl.ca.location to the certificate of the authority that has signed the broker's"
    } else {
        "check the ssl.* properties"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Texts as a broker of Apache Kafka 4.3 and librdkafka 2.12 bring them about.
    const WRONG_PASSWORD: &str = "sasl_plaintext://k:9092/bootstrap: SASL authentication error: Authentication failed: \
                                  Invalid username or password";
    const UNKNOWN_AUTHORITY: &str = "ssl://k:9092/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate \
                                     verify failed: broker certificate could not be verified, verify that ssl.ca.location \
                                     is correctly configured";
    const NO_CLIENT_CERTIFICATE: &str = "ssl://k:9092/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert \
                                         bad certificate: SSL alert number 42";
    const NO_TLS: &str = "ssl://k:9092/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: \
                          connecting to a PLAINTEXT broker listener?";
    const HANGS_UP: &str = "k:9092/bootstrap: Send failed: Broken pipe";
    const HANGS_UP_ON_TLS: &str = "ssl://k:9092/bootstrap: Disconnected: connection reset by peer";
    const ELSEWHERE: &str = "internal-1:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection timed out";

    fn of(code: RDKafkaErrorCode, reason: &str, tls: bool, sasl: bool) -> Diagnosis {
        // What always comes along must not hide the cause.
        let errors = [(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down".to_owned()), (code, reason.to_owned())];
        diagnose(&errors, tls, sasl).unwrap()
    }

    #[test]
    fn each_failure_is_laid_at_its_step() {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, SSL};
        for (code, reason, tls, sasl, step, advice) in [
            (Authentication, WRONG_PASSWORD, false, true, Step::Sasl, "check user, password"),
            (SSL, UNKNOWN_AUTHORITY, true, false, Step::Tls, "set ssl.ca.location"),
            (SSL, NO_CLIENT_CERTIFICATE, true, false, Step::Tls, "wants a client certificate"),
            (BrokerTransportFailure, NO_CLIENT_CERTIFICATE, true, false, Step::Tls, "wants a client certificate"),
            (SSL, NO_TLS, true, false, Step::Tls, "does not speak TLS on this port"),
            (BrokerTransportFailure, HANGS_UP_ON_TLS, true, false, Step::Tls, "may not speak TLS on this port"),
            (BrokerTransportFailure, HANGS_UP_ON_TLS, true, true, Step::Tls, "may not speak TLS on this port"),
            (BrokerTransportFailure, HANGS_UP, false, false, Step::Tls, "may want TLS or a login"),
            (BrokerTransportFailure, HANGS_UP, false, true, Step::Tls, "may want TLS: set"),
            (BrokerTransportFailure, HANGS_UP, true, false, Step::Sasl, "may want a login (sasl_ssl)"),
            (BrokerTransportFailure, HANGS_UP, true, true, Step::Sasl, "check sasl.mechanism"),
            (BrokerTransportFailure, ELSEWHERE, false, false, Step::Metadata, "advertised.listeners"),
        ] {
            let state = if reason == HANGS_UP_ON_TLS { "SSL_HANDSHAKE" } else { "UP" };
            let diagnosis = of(code, &format!("{reason} (after 3ms in state {state})"), tls, sasl);
            assert_eq!((diagnosis.step, &*diagnosis.reason), (step, reason));
            assert!(diagnosis.advice.contains(advice), "{reason}: {}", diagnosis.advice);
        }
    }

    #[test]
    fn a_broker_that_says_nothing_is_no_riddle() {
        let errors = [(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down".to_owned())];
        let diagnosis = diagnose(&errors, false, false).unwrap();
        assert_eq!((diagnosis.step, diagnosis.certain), (Step::Tls, false));
        assert_eq!(diagnose(&[], false, false), None);
    }
}
