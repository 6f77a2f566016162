//! Which gateway one that is to listen somewhere takes over. Pure.
//!
//! The settings decide where a gateway listens, whoever ran before: it takes over the one that listens there,
//! and never gets another address by it.

use std::net::SocketAddr;

use crate::gateway::listen::At;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Take over the one with this index.
    Take(usize),
    /// Nobody listens there.
    Nobody,
    /// The one with this index has the port, at another address: neither can it be taken over, nor can it be
    /// listened on beside it.
    InTheWay(usize),
    /// The port may be any, and there are several.
    Several,
}

/// Chooses among gateways by where they listen.
pub(super) fn choose(wanted: &At, offers: &[&[At]]) -> Choice {
    let with = |fits: &dyn Fn(&At) -> bool| -> Vec<usize> {
        let found = offers.iter().enumerate();
        let found = found.filter(|(_, listens)| listens.iter().any(fits));
        found.map(|(index, _)| index).collect()
    };
    if let At::Tcp(wanted) = wanted
        && wanted.port() == 0
    {
        let same = with(&|at| matches!(at, At::Tcp(at) if at.ip() == wanted.ip()));
        return match *same {
            [] => Choice::Nobody,
            [one] => Choice::Take(one),
            _ => Choice::Several,
        };
    }
    let exact = with(&|at| at == wanted).first().copied();
    let in_the_way = || with(&|at| collide(at, wanted)).first().copied();
    match exact {
        Some(one) => Choice::Take(one),
        None => in_the_way().map_or(Choice::Nobody, Choice::InTheWay),
    }
}

/// Whether these two cannot be listened on by two.
fn collide(one: &At, other: &At) -> bool {
    let is_any = |address: &SocketAddr| address.ip().is_unspecified();
    match (one, other) {
        (At::Tcp(one), At::Tcp(other)) => {
            one.port() == other.port() && (is_any(one) || is_any(other))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> At {
        At::Tcp(text.parse().unwrap())
    }

    #[test]
    fn the_settings_decide_where_it_listens() {
        let unix = |path: &str| At::Unix(path.into());
        let first = [tcp("127.0.0.1:1"), unix("/a")];
        let second = [tcp("127.0.0.1:2")];
        let third = [tcp("[::1]:3")];
        let offers: [&[At]; 3] = [&first, &second, &third];
        for (wanted, choice) in [
            (tcp("127.0.0.1:2"), Choice::Take(1)),
            (unix("/a"), Choice::Take(0)),
            (unix("/b"), Choice::Nobody),
            (tcp("127.0.0.1:9"), Choice::Nobody),
            (tcp("127.0.0.2:1"), Choice::Nobody),
            (tcp("0.0.0.0:2"), Choice::InTheWay(1)),
            (tcp("[::]:3"), Choice::InTheWay(2)),
            (tcp("127.0.0.1:0"), Choice::Several),
            (tcp("[::1]:0"), Choice::Take(2)),
            (tcp("10.0.0.1:0"), Choice::Nobody),
        ] {
            assert_eq!(choose(&wanted, &offers), choice, "{wanted:?}");
        }
        assert_eq!(choose(&tcp("127.0.0.1:1"), &[]), Choice::Nobody);
    }
}
