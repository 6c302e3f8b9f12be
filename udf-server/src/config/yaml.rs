//! YAML as a settings file needs it: mappings, lists, and scalars that keep their source text. Pure.
//!
//! A settings file may hold secrets, and a mistake may move any text of it anywhere. So an error never quotes the file: it
//! tells the line, the column and the rule.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

/// The most levels of lists and mappings within each other. Settings need three.
const DEPTH: usize = 16;
/// The most nodes of a file, with those that aliases repeat.
const NODES: usize = 10_000;

/// What a file must not do, and where it does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: usize,
    pub(crate) rule: String,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The line in which it begins, from 1.
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// No value, `~` or `null`.
    Null,
    /// Any scalar, as it stands in the file, without its quotes: `012` is `012`, and `1.10` is `1.10`.
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value; no key comes twice in a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The line of the key, from 1.
    pub(crate) line: usize,
    pub(crate) node: Node,
}

/// Reads a document that is a mapping, or empty.
pub(crate) fn mapping(text: &str) -> Result<Vec<Entry>, Problem> {
    let mut reader = Reader::new(text);
    let root = reader.document()?;
    match root.value {
        Value::Mapping(entries) => Ok(entries),
        Value::Null => Ok(Vec::new()),
        Value::Text(_) | Value::List(_) => {
            Err(Problem { line: root.line, column: 1, rule: "is not a YAML mapping of settings".to_owned() })
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    last: Span,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = DEPTH;
        options.block_nesting_limit = DEPTH;
        let parser = Parser::new_from_str_with_options(text, options);
        Self { parser, anchors: HashMap::new(), nodes: 0, last: Span::default() }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            if event == Event::StreamEnd {
                return Ok(root.unwrap_or(Node { line: 1, value: Value::Null }));
            }
            if matches!(event, Event::DocumentStart(..)) {
                if root.is_some() {
                    return Err(problem(&span, "a second document begins, and a settings file has one"));
                }
                let (event, span) = self.next()?;
                root = Some(self.node(event, &span)?);
            }
            // What is left are the beginning of the stream and the end of a document.
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next() {
            Some(Ok((event, span))) => {
                self.last = span;
                Ok((event, span))
            }
            Some(Err(error)) => Err(scan_problem(&error)),
            None => Err(problem(&self.last, "the file ends too early")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, Problem> {
        self.count(1, span)?;
        let (anchor, value) = if let Event::Scalar(text, style, anchor, tag) = event {
            check_tag(tag.as_deref(), span)?;
            check_lines(style, span)?;
            let is_null =
                style == ScalarStyle::Plain && tag.is_none() && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
            (anchor, if is_null { Value::Null } else { Value::Text(text.into_owned()) })
        } else if let Event::SequenceStart(_, anchor, tag) = event {
            check_tag(tag.as_deref(), span)?;
            (anchor, self.list()?)
        } else if let Event::MappingStart(_, anchor, tag) = event {
            check_tag(tag.as_deref(), span)?;
            (anchor, self.entries()?)
        } else if let Event::Alias(id) = event {
            // One that stands within its own anchor is not known yet.
            let unknown = "an alias has to stand behind its anchor; a value that begins with * needs quotes";
            let node = self.anchors.get(&id).cloned().ok_or_else(|| problem(span, unknown))?;
            self.count(size(&node), span)?;
            return Ok(Node { line: span.start.line(), ..node });
        } else {
            return Err(problem(span, "a value is missing"));
        };
        let node = Node { line: span.start.line(), value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, Problem> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                (event, span) => list.push(self.node(event, &span)?),
            }
        }
    }

    fn entries(&mut self) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Mapping(entries));
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let Value::Text(key) = self.node(event, &span)?.value else {
                return Err(problem(&span, "a key is a text, and not empty"));
            };
            if is_merge {
                return Err(problem(&span, "merge keys (<<) are not supported: give the settings themselves"));
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let rule = format!("this key is in line {} too: give each key once", first.line);
                return Err(problem(&span, &rule));
            }
            let line = span.start.line();
            let (event, span) = self.next()?;
            let node = self.node(event, &span)?;
            entries.push(Entry { key, line, node });
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > NODES {
            return Err(problem(span, &format!("the file holds more than {NODES} keys and values")));
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Text(_) => 1,
        Value::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + size(&entry.node)).sum::<usize>(),
    }
}

/// A value that begins with an exclamation mark is a tag to YAML, and what follows it is all that would be left of a password.
fn check_tag(tag: Option<&Tag>, span: &Span) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(problem(span, "a tag has no meaning here; a value that begins with ! needs quotes"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A quote that is not closed swallows what follows it, up to the next quote: then a setting would hold others.
fn check_lines(style: ScalarStyle, span: &Span) -> Result<(), Problem> {
    let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    if is_block || span.start.line() == span.end.line() {
        return Ok(());
    }
    let rule = format!(
        "a value or key goes on to line {}: close its quotes, or check the indentation; a value of several lines begins with |",
        span.end.line()
    );
    Err(problem(span, &rule))
}

fn problem(span: &Span, rule: &str) -> Problem {
    Problem { line: span.start.line(), column: span.start.col() + 1, rule: rule.to_owned() }
}

/// The texts of the kinds quote brackets at most; those that quote more get texts of ours.
fn scan_problem(error: &ScanError) -> Problem {
    let kind = error.kind();
    let rule = if matches!(kind, ErrorKind::UnexpectedCharacter { .. }) {
        "a value that begins with this sign needs quotes".to_owned()
    } else if matches!(kind, ErrorKind::UnknownAnchor) {
        "there is no such anchor; a value that begins with * needs quotes".to_owned()
    } else if matches!(kind, ErrorKind::MappingValueNotAllowed) {
        "a key and its colon are not allowed here: check the indentation; a value with a colon and a space in it needs quotes"
            .to_owned()
    } else if matches!(kind, ErrorKind::Custom(_) | ErrorKind::InputIo { .. } | ErrorKind::InputDecoding { .. }) {
        "this is not YAML".to_owned()
    } else {
        kind.to_string()
    };
    let marker = error.marker();
    Problem { line: marker.line(), column: marker.col() + 1, rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file comes to, in one line.
    fn read(text: &str) -> Result<String, Problem> {
        mapping(text).map(|entries| show(&Value::Mapping(entries)))
    }

    fn show(value: &Value) -> String {
        match value {
            Value::Null => "-".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(list) => {
                format!("[{}]", list.iter().map(|node| show(&node.value)).collect::<Vec<_>>().join(" "))
            }
            Value::Mapping(entries) => {
                let entry = |entry: &Entry| format!("{}@{}={}", entry.key, entry.line, show(&entry.node.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn scalars_keep_their_source_text() {
        for text in [
            "0017",
            "1.10",
            "007",
            "0x10",
            "00123",
            "012345",
            "0660",
            "2026_01",
            "1e3",
            "+1",
            "1_000",
            ".5",
            "5.",
            "true",
            "True",
            "yes",
            "on",
            "y",
            "NaN",
            ".inf",
            "2026-01-31",
            "12:30:45",
            "0o17",
            "a,b",
            "a:1",
            "^a{1,2}$",
            "-1",
            "a#b",
        ] {
            assert_eq!(read(&format!("key: {text}\n")), Ok(format!("{{key@1={text:?}}}")));
            assert_eq!(read(&format!("{{key: '{text}'}}")), Ok(format!("{{key@1={text:?}}}")));
            assert_eq!(read(&format!("key: !!str {text} # why\n")), Ok(format!("{{key@1={text:?}}}")));
        }
        assert_eq!(read("key: '~'\n").unwrap(), "{key@1=\"~\"}");
        assert_eq!(read("a: ~\nb:\nc: null\n").unwrap(), "{a@1=- b@2=- c@3=-}");
        assert_eq!(read("a: |\n  1\n  2\nb: [1, {c: 02}]\n").unwrap(), "{a@1=\"1\\n2\\n\" b@4=[\"1\" {c@4=\"02\"}]}");
    }

    #[test]
    fn a_file_without_a_document_is_empty() {
        for text in ["", "\n", "# nothing\n", "---\n", "---\n# nothing\n...\n"] {
            assert_eq!(read(text), Ok("{}".to_owned()), "{text:?}");
        }
    }

    #[test]
    fn aliases_repeat_what_their_anchor_names() {
        assert_eq!(read("a: &x [1, 2]\nb: *x\n").unwrap(), "{a@1=[\"1\" \"2\"] b@2=[\"1\" \"2\"]}");
        let bomb = (1..20).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
            format!("{text}a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1)
        });
        assert!(read(&bomb).unwrap_err().rule.contains("more than 10000"), "{:?}", read(&bomb));
    }

    #[test]
    fn mistakes_have_their_place_and_their_rule() {
        for (text, line, rule) in [
            ("password: %X", 1, "needs quotes"),
            ("a: 1\npassword: @X", 2, "needs quotes"),
            ("password: !X", 1, "begins with ! needs quotes"),
            ("password: *X", 1, "begins with * needs quotes"),
            ("a: 1\nb: 2\na: 3", 3, "this key is in line 1 too"),
            ("a: \"X\nb: 2\nc: \"", 2, "invalid indentation in multiline quoted scalar"),
            ("m: {a: \"X\n  b: 2\n  c: \"}", 1, "goes on to line 3: close its quotes"),
            ("a: X\n  Y\n", 1, "goes on to line 2"),
            ("a: \"X", 1, "unclosed quote"),
            ("a: X: Y", 1, "a value with a colon and a space in it needs quotes"),
            ("a: [X", 1, ""),
            ("a: {X", 1, ""),
            ("? [X]\n: Y", 1, "a key is a text"),
            ("a: &X {b: *X}", 1, "behind its anchor"),
            ("<<: {X: Y}", 1, "merge keys"),
            ("a: 1\n---\nX: 2\n", 2, "a second document"),
            ("- X\n", 1, "is not a YAML mapping"),
            ("X", 1, "is not a YAML mapping"),
            (&*"[".repeat(100), 1, "recursion limit"),
        ] {
            let problem = read(text).unwrap_err();
            assert_eq!(problem.line, line, "{text:?}: {problem:?}");
            assert!(problem.rule.contains(rule) && !problem.rule.contains('X'), "{text:?}: {problem:?}");
        }
    }
}
