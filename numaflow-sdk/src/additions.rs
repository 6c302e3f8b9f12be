//! What a program adds to the admin endpoint of its server.

use std::fmt;

use crate::ServeError;
use crate::metrics::text::MetricsText;

/// The paths that every endpoint has.
pub(crate) const PATHS: [&str; 4] = ["/metrics", "/livez", "/readyz", "/inflight"];

/// What [`Server::admin_page`](crate::Server::admin_page) answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPage {
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl AdminPage {
    /// A page of plain text.
    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self { content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A page of JSON, which is to be there as text already.
    #[must_use]
    pub fn json(body: impl Into<String>) -> Self {
        Self { content_type: "application/json", body: body.into() }
    }
}

type Answer<T> = Box<dyn Fn() -> T + Send + Sync>;
type Write = Box<dyn Fn(&mut MetricsText) + Send + Sync>;

/// Nothing of it is called unless somebody asks.
#[derive(Default)]
pub(crate) struct Additions {
    pages: Vec<(String, Answer<AdminPage>)>,
    metrics: Vec<Write>,
    ready_when: Vec<Answer<Result<(), String>>>,
}

impl Additions {
    pub(crate) fn add_page(&mut self, path: String, page: impl Fn() -> AdminPage + Send + Sync + 'static) {
        self.pages.push((path, Box::new(page)));
    }

    pub(crate) fn add_metrics(&mut self, write: impl Fn(&mut MetricsText) + Send + Sync + 'static) {
        self.metrics.push(Box::new(write));
    }

    pub(crate) fn add_check(&mut self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.ready_when.push(Box::new(check));
    }

    /// Whether each page can be asked for.
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        let refused = |problem| Err(ServeError::Option { name: "admin_page", problem });
        for (index, path) in self.paths().enumerate() {
            if !path.starts_with('/') || path.contains(['?', '#']) || path.contains(char::is_whitespace) {
                return refused(format!("{path:?} is not a path: it must begin with / and hold no space, ? or #"));
            }
            if PATHS.contains(&path) || self.paths().take(index).any(|earlier| earlier == path) {
                return refused(format!("there is a page {path} already"));
            }
        }
        Ok(())
    }

    /// The paths of the pages.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.pages.iter().map(|(path, _)| path.as_str())
    }
}

#[cfg(feature = "admin")]
impl Additions {
    /// The page at this path, made anew; `None` where there is none.
    pub(crate) fn page(&self, path: &str) -> Option<AdminPage> {
        let (_, page) = self.pages.iter().find(|(known, _)| known == path)?;
        Some(page())
    }

    /// What the program counts.
    pub(crate) fn metrics(&self) -> MetricsText {
        let mut text = MetricsText::default();
        for write in &self.metrics {
            write(&mut text);
        }
        text
    }

    /// Why the program is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.ready_when.iter().find_map(|check| check().err())
    }
}

impl fmt::Debug for Additions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Additions")
            .field("pages", &self.paths().collect::<Vec<_>>())
            .field("metrics", &self.metrics.len())
            .field("ready_when", &self.ready_when.len())
            .finish()
    }
}
