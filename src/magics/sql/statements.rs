//! SQL as text: where its statements end, which names of the kernel they bind. Pure.
//!
//! Knows what the dialects share, and no more: comments (`--`, nested `/* */`), strings (`''` within, `E'…'` with
//! backslashes, `$tag$…$tag$`) and quoted names (`"…"`, `` `…` ``). Whether it is SQL at all is the database's to say.

use std::collections::HashMap;
use std::ops::Range;

/// So many values one statement may bind: what PostgreSQL's protocol can count, and others take no more.
pub const VALUES_MAX: usize = 65_535;

/// Errors tell the line in the cell by as many blank lines above a statement; in the worker they cost time. So deep in a long script
/// a statement's errors tell its own lines.
const LINES_ABOVE_MAX: usize = 10_000;

/// How a database is told where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholders {
    /// `$1`, again for the same name.
    Dollar,
    /// `?1`, again for the same name.
    Numbered,
    /// `?`, one for each time.
    Question,
}

impl Placeholders {
    /// Those of the driver with this name.
    pub(super) fn of(driver: &str) -> Self {
        match driver {
            "duckdb" | "postgresql" | "redshift" => Self::Dollar,
            "sqlite" => Self::Numbered,
            _ => Self::Question,
        }
    }
}

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Without blanks and comments around it.
    pub text: &'a str,
    /// Each `:name` in it.
    parameters: Vec<Range<usize>>,
    /// So many lines of the cell stand above it.
    pub lines_above: usize,
    /// What its strings and quoted names say.
    pub quoted: Vec<&'a str>,
}

/// The names that statements bind, each once, in the order in which they are first there.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    all: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    pub fn of(statements: &[Statement<'a>]) -> Self {
        let mut names = Self::default();
        for name in statements.iter().flat_map(Statement::names) {
            names.places.entry(name).or_insert_with(|| {
                names.all.push(name);
                names.all.len() - 1
            });
        }
        names
    }

    pub fn all(&self) -> &[&'a str] {
        &self.all
    }
}

/// A statement as a database takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub sql: String,
    /// For each placeholder the index of its name among all.
    pub values: Vec<usize>,
}

impl<'a> Statement<'a> {
    /// The names that it binds, each as often as it stands there.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        let ranges = self.parameters.iter();
        ranges.map(move |range| &text[range.start + 1..range.end])
    }

    /// With placeholders for the names; nothing where those are more than a database takes.
    pub fn sent(&self, placeholders: Placeholders, names: &Names<'_>) -> Option<Sent> {
        let mut sql = String::with_capacity(self.text.len());
        let (mut values, mut numbers, mut end) = (Vec::new(), HashMap::new(), 0);
        for (range, name) in self.parameters.iter().zip(self.names()) {
            sql.push_str(&self.text[end..range.start]);
            end = range.end;
            let value = *names.places.get(name)?;
            let number = match (placeholders, numbers.get(&value)) {
                (Placeholders::Dollar | Placeholders::Numbered, Some(number)) => *number,
                _ => {
                    values.push(value);
                    numbers.insert(value, values.len());
                    values.len()
                }
            };
            match placeholders {
                Placeholders::Dollar => sql.push_str(&format!("${number}")),
                Placeholders::Numbered => sql.push_str(&format!("?{number}")),
                Placeholders::Question => sql.push('?'),
            }
        }
        sql.push_str(&self.text[end..]);
        (values.len() <= VALUES_MAX).then_some(Sent { sql, values })
    }
}

/// The statements of a text, which has so many lines of its cell above it; what is blank or only comments is none.
pub fn split(sql: &str, lines_above: usize) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut open = Open::default();
    let mut lines = Lines {
        counted: 0,
        above: lines_above,
    };
    let mut at = 0;
    while at < sql.len() {
        let token = token(sql, at);
        let end = at + token.bytes;
        match token.kind {
            Kind::Blank => {}
            Kind::End => {
                statements.extend(open.take(sql, &mut lines));
            }
            kind => {
                let start = *open.start.get_or_insert(at);
                match kind {
                    Kind::Parameter => open.parameters.push(at - start..end - start),
                    Kind::Quoted => open.quoted.push(within_quotes(&sql[at..end])),
                    _ => {}
                }
                open.end = end;
            }
        }
        at = end;
    }
    statements.extend(open.take(sql, &mut lines));
    statements
}

/// The lines above a place that only moves on.
struct Lines {
    counted: usize,
    above: usize,
}

impl Lines {
    fn above(&mut self, sql: &str, place: usize) -> usize {
        self.above += sql[self.counted..place].matches('\n').count();
        self.counted = place;
        match self.above {
            few @ ..=LINES_ABOVE_MAX => few,
            _ => 0,
        }
    }
}

/// A statement that has begun.
#[derive(Default)]
struct Open<'a> {
    start: Option<usize>,
    /// Of its last token that is not blank.
    end: usize,
    parameters: Vec<Range<usize>>,
    quoted: Vec<&'a str>,
}

impl<'a> Open<'a> {
    fn take(&mut self, sql: &'a str, lines: &mut Lines) -> Option<Statement<'a>> {
        let Self {
            start,
            end,
            parameters,
            quoted,
        } = std::mem::take(self);
        let start = start?;
        Some(Statement {
            text: &sql[start..end],
            parameters,
            lines_above: lines.above(sql, start),
            quoted,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// White space and comments.
    Blank,
    /// `;`
    End,
    Parameter,
    /// A string or a name in quotes of one character.
    Quoted,
    Other,
}

struct Token {
    kind: Kind,
    bytes: usize,
}

fn token(sql: &str, at: usize) -> Token {
    let rest = &sql[at..];
    let of = |kind, bytes| Token { kind, bytes };
    let mut chars = rest.chars();
    let Some(first) = chars.next() else {
        return of(Kind::Other, 0);
    };
    match (first, chars.next()) {
        (c, _) if c.is_whitespace() => of(Kind::Blank, c.len_utf8()),
        ('-', Some('-')) => of(Kind::Blank, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*')) => of(Kind::Blank, comment(rest)),
        (';', _) => of(Kind::End, 1),
        ('\'' | '"' | '`', _) => of(Kind::Quoted, quoted(rest, first, false)),
        ('e' | 'E', Some('\'')) if !is_in_word(sql, at) => {
            of(Kind::Other, 1 + quoted(&rest[1..], '\'', true))
        }
        ('$', _) if !is_in_word(sql, at) => of(Kind::Other, dollar_quoted(rest).unwrap_or(1)),
        (':', Some(c)) if is_name_start(c) && may_bind_after(&sql[..at]) => {
            let name = rest[1..].find(|c| !is_of_name(c));
            of(Kind::Parameter, name.map_or(rest.len(), |end| end + 1))
        }
        (c, _) => of(Kind::Other, c.len_utf8()),
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_in_word(sql: &str, at: usize) -> bool {
    sql[..at].ends_with(|c| is_of_name(c) || c == '$')
}

/// `a::int`, `a[1:b]`, `a[b:c]`, `{'k':v}` and `f(x):y` bind nothing, nor does what a placeholder would make a part of a name or of `$$`.
fn may_bind_after(before: &str) -> bool {
    let is_held = |c| is_of_name(c) || matches!(c, ':' | ']' | ')' | '}' | '\'' | '"' | '`' | '$');
    !before.ends_with(is_held)
}

/// The bytes of a comment with those in it; all that is left where it does not end.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = rest.as_bytes();
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The bytes of what begins with this quote. Twice the quote is one of it; a backslash takes the next character.
fn quoted(rest: &str, quote: char, with_backslash: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && with_backslash {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

/// Without the quotes; the last one may be missing.
fn within_quotes(token: &str) -> &str {
    let mut chars = token.chars();
    let quote = chars.next();
    let inner = chars.as_str();
    inner.strip_suffix(|c| Some(c) == quote).unwrap_or(inner)
}

/// The bytes of `$tag$…$tag$`, if it is one.
fn dollar_quoted(rest: &str) -> Option<usize> {
    let tag_end = rest[1..].find('$')? + 2;
    let tag = &rest[..tag_end];
    let name = &tag[1..tag_end - 1];
    let is_tag = name.chars().all(is_of_name) && !name.starts_with(|c: char| c.is_ascii_digit());
    // Looked for only then: there may be many that are none.
    is_tag.then(|| {
        let end = rest[tag_end..].find(tag);
        end.map_or(rest.len(), |end| tag_end + end + tag.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(sql: &str, placeholders: Placeholders) -> Vec<(String, Vec<usize>)> {
        let statements = split(sql, 0);
        let names = Names::of(&statements);
        let sent = statements.iter().map(|one| one.sent(placeholders, &names));
        sent.map(|sent| sent.unwrap())
            .map(|sent| (sent.sql, sent.values))
            .collect()
    }

    #[test]
    fn statements_end_where_a_database_sees_their_end() {
        let texts = |sql| -> Vec<String> {
            split(sql, 0)
                .iter()
                .map(|one| one.text.to_owned())
                .collect()
        };
        assert_eq!(texts(" select 1 ;\n-- no; more\n"), ["select 1"]);
        assert_eq!(
            texts("a;b /* ; /* ; */ ; */ c;;"),
            ["a", "b /* ; /* ; */ ; */ c"]
        );
        assert_eq!(
            texts("select ';', \";\", `;`, 'it''s;', e'\\';', $$;$$, $a$;$$;$a$ -- ;"),
            ["select ';', \";\", `;`, 'it''s;', e'\\';', $$;$$, $a$;$$;$a$"]
        );
        assert_eq!(texts("-- nothing"), [""; 0]);
        assert_eq!(texts("select '"), ["select '"]);
    }

    #[test]
    fn names_are_bound_and_what_looks_like_them_is_not() {
        let sql = "select :a, :b::int from t where x = :a and y in (:_c1)";
        assert_eq!(
            sent(sql, Placeholders::Dollar),
            [(
                "select $1, $2::int from t where x = $1 and y in ($3)".to_owned(),
                vec![0, 1, 2]
            )]
        );
        assert_eq!(
            sent(sql, Placeholders::Question),
            [(
                "select ?, ?::int from t where x = ? and y in (?)".to_owned(),
                vec![0, 1, 0, 2]
            )]
        );
        assert_eq!(
            sent("select :b; select :a, ?", Placeholders::Numbered),
            [
                ("select ?1".to_owned(), vec![0]),
                ("select ?1, ?".to_owned(), vec![1])
            ]
        );
        for plain in [
            "select x::int, x[1:2], x[:2], x[a:b], {'k':v}, {k: v}, ':a', \":a\", $$ :a $$",
            "select '{\"a\":b}', e'\\':a', 12:30 /* :a */, a",
            "select $:a $, x$:a",
        ] {
            assert_eq!(
                sent(plain, Placeholders::Dollar),
                [(plain.to_owned(), vec![])]
            );
        }
    }

    #[test]
    fn lines_are_those_of_the_cell() {
        let lines = |sql, above| -> Vec<usize> {
            let statements = split(sql, above);
            statements.iter().map(|one| one.lines_above).collect()
        };
        assert_eq!(lines("\nselect 1;\nselect\n :a;b", 1), [2, 3, 4]);
        let deep = format!("a;{}b", "\n".repeat(LINES_ABOVE_MAX + 1));
        assert_eq!(lines(&deep, 0), [0, 0]);
    }

    #[test]
    fn a_statement_binds_no_more_than_a_database_takes() {
        let sql = format!("select {}:a", ":a, ".repeat(VALUES_MAX));
        let statements = split(&sql, 0);
        let names = Names::of(&statements);
        assert_eq!(names.all(), ["a"]);
        assert_eq!(statements[0].sent(Placeholders::Question, &names), None);
        let once = statements[0].sent(Placeholders::Dollar, &names).unwrap();
        assert_eq!(once.values, [0]);
    }

    #[test]
    fn what_is_in_quotes_is_known() {
        let statements = split("select * from 'a b.arrow' join \"c\" where x = 'it''s'", 0);
        assert_eq!(statements[0].quoted, ["a b.arrow", "c", "it''s"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_nothing_of_it_is_lost(sql in "[a:;'\"$/*\\-e\\\\\n é1_?`{}\\[\\]]{0,60}") {
            let statements = split(&sql, 0);
            let names = Names::of(&statements);
            for statement in &statements {
                let sent = statement.sent(Placeholders::Question, &names).unwrap();
                prop_assert_eq!(sent.values.len(), statement.names().count());
                if sent.values.is_empty() {
                    prop_assert_eq!(&sent.sql, statement.text);
                }
                prop_assert!(sql.contains(statement.text));
                // A database sees the same one statement.
                let sent = statement.sent(Placeholders::Dollar, &names).unwrap();
                let seen = split(&sent.sql, 0);
                prop_assert_eq!(seen.len(), 1);
                prop_assert_eq!((seen[0].text, seen[0].names().count()), (&*sent.sql, 0));
            }
        }
    }
}
