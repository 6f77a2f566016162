#![no_main]
//! What `%%sql` reads: cells, and what a worker says. The first byte says which.

use libfuzzer_sys::fuzz_target;
use nb::magics::call::Call;
use nb::magics::sql::arguments;
use nb::magics::sql::shown;
use nb::magics::sql::statements::{Names, Placeholders, split};
use nb::workers::sql::wire::Event;
use serde_json::from_slice;

fuzz_target!(|data: &[u8]| {
    let [kind, data @ ..] = data else { return };
    match kind {
        b's' => any_text(&String::from_utf8_lossy(data)),
        b'g' => of_pieces(data),
        b'a' => {
            let text = String::from_utf8_lossy(data);
            let (line, cell) = text.split_once('\n').unwrap_or((&text, ""));
            let call = Call {
                magic: "sql".to_owned(),
                line: line.to_owned(),
                cell: (!cell.is_empty()).then(|| cell.to_owned()),
            };
            if let Ok(asked) = arguments::parse(&call, |name| name == "wh") {
                // A connection, a name, and what is asked: nothing else is made of it.
                assert!(asked.sql.len() <= text.len() + 1 && !asked.sql.contains('\0'));
                for word in asked
                    .connection
                    .iter()
                    .chain(asked.into.iter().map(|into| &into.name))
                {
                    assert!(line.contains(word.as_str()) && !word.contains(char::is_whitespace));
                }
                any_text(&asked.sql);
            }
        }
        b'e' => {
            if let Ok(Event::Done(done)) = from_slice(data) {
                let bundle = shown::table(&done);
                let html = bundle["text/html"].as_str().expect("a text");
                // What a database says is no markup.
                let marked = html.matches('<').count();
                let cells = done.preview.iter().map(Vec::len).sum::<usize>();
                assert!(marked <= 10 + 2 * (done.columns.len() + done.preview.len() + cells));
            }
        }
        _ => {}
    }
});

/// Statements are pieces of the text in its order, and a database sees each as the one that was found.
fn any_text(text: &str) {
    let statements = split(text, 0);
    let names = Names::of(&statements);
    let mut rest = text;
    for statement in &statements {
        let at = rest.find(statement.text).expect("it is in the text");
        rest = &rest[at + statement.text.len()..];
        for placeholders in [Placeholders::Dollar, Placeholders::Numbered] {
            let Some(sent) = statement.sent(placeholders, &names) else {
                continue;
            };
            let seen = split(&sent.sql, 0);
            assert_eq!((seen.len(), seen[0].text), (1, &*sent.sql));
            assert_eq!(seen[0].names().count(), 0, "{}", sent.sql);
        }
    }
}

/// What may be in quotes and comments: a name that is not bound there, and what would end a statement.
const FILLERS: [&str; 8] = [":n", " ", ";", "\n", "x", "?", "é", "::n"];

/// Pieces of SQL that are known to bind `p`, or nothing: so and no other way they are read.
fn of_pieces(data: &[u8]) {
    let (mut sql, mut bound, mut statements, mut is_open) = (String::new(), 0, 0, false);
    let mut bytes = data.iter().map(|byte| usize::from(*byte));
    while let Some(piece) = bytes.next() {
        let filler: String = bytes
            .by_ref()
            .take(piece / 32)
            .map(|byte| FILLERS[byte % FILLERS.len()])
            .collect();
        let line = filler.replace('\n', "");
        let (piece, is_blank) = match piece % 16 {
            0 => (":p".to_owned(), false),
            1 => (format!("'{filler}'"), false),
            2 => (format!("\"{filler}\""), false),
            3 => (format!("`{filler}`"), false),
            4 => (format!("'it''s {filler}'"), false),
            5 => (format!("e'\\'{filler}'"), false),
            6 => (format!("--{line}\n"), true),
            7 => (format!("/*{filler}/* ' */{filler}*/"), true),
            8 => (format!("$${filler}$$"), false),
            9 => (format!("$t${filler}$u$ {filler}$t$"), false),
            10 => ("x::n".to_owned(), false),
            11 => ("a[n:n]".to_owned(), false),
            12 => ("{'k':n}".to_owned(), false),
            13 => ("(:p)".to_owned(), false),
            14 => (";".to_owned(), true),
            _ => ("select".to_owned(), false),
        };
        bound += usize::from(piece.contains(":p"));
        if piece == ";" {
            is_open = false;
        } else if !is_blank && !is_open {
            is_open = true;
            statements += 1;
        }
        sql.push_str(&piece);
        sql.push(' ');
    }
    let found = split(&sql, 0);
    assert_eq!(found.len(), statements, "{sql}");
    let names: Vec<&str> = found.iter().flat_map(|one| one.names()).collect();
    assert_eq!(names, vec!["p"; bound], "{sql}");
}
