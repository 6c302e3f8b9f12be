//! What a broker can be told.

use crate::properties::Endpoint;

/// What a broker can be told.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) format: Vec<String>,
    pub(crate) heap: String,
    pub(crate) full_jit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// A broker that is quick to start: 512 MB of heap, one replica of everything, short sessions allowed, no topic made
    /// by being asked for, and one listener without authentication.
    pub fn new() -> Self {
        Self {
            properties: Vec::new(),
            listeners: Vec::new(),
            format: Vec::new(),
            heap: "512m".to_owned(),
            full_jit: false,
        }
    }

    /// Sets one of Kafka's server properties, over our own.
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Adds a listener beside the plain one; see [`Broker::listener`](crate::Broker::listener).
    pub fn with_listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Adds an argument of Kafka's `format` command, such as `--feature=group.version=0` for a broker without the new
    /// group protocol.
    pub fn with_format_argument(mut self, argument: impl Into<String>) -> Self {
        self.format.push(argument.into());
        self
    }

    /// Sets the most heap that Java takes, as its `-Xmx` has it: `512m`, the default, is enough for tests.
    pub fn with_heap(mut self, heap: impl Into<String>) -> Self {
        self.heap = heap.into();
        self
    }

    /// Has Java optimise in full what runs often, for benchmarks. Off by default: the start then takes half as much
    /// processor time again.
    pub fn with_full_jit(mut self) -> Self {
        self.full_jit = true;
        self
    }
}

/// A place where clients have to prove who they are, or talk in secret.
#[derive(Debug, Clone)]
#[must_use]
pub struct Listener {
    pub(crate) name: String,
    pub(crate) security: Security,
    pub(crate) properties: Vec<(String, String)>,
}

impl Listener {
    /// A listener of a name, which is letters and underscores.
    pub fn new(name: impl Into<String>, security: Security) -> Self {
        Self { name: name.into(), security, properties: Vec::new() }
    }

    /// Sets a property of this listener alone, such as `ssl.client.auth`. One with SASL needs `sasl.enabled.mechanisms`
    /// and for each of them, in lower case, something like `plain.sasl.jaas.config`.
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Its place at a port of this machine.
    pub(crate) fn endpoint(&self, port: u16) -> Endpoint {
        Endpoint::direct(&self.name, self.security.protocol(), port)
    }
}

/// How a [`Listener`] is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Not at all.
    Plain,
    /// TLS; the listener's properties say where the certificates are.
    Tls,
    /// SASL without TLS.
    Sasl,
    /// SASL over TLS.
    SaslTls,
}

impl Security {
    /// Kafka's name of it.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Plain => "PLAINTEXT",
            Self::Tls => "SSL",
            Self::Sasl => "SASL_PLAINTEXT",
            Self::SaslTls => "SASL_SSL",
        }
    }
}
