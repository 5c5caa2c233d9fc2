//! What a certificate lets its node do: the cluster's authority says so when it signs it. It owns
//! the names of the roles and what each allows; it must never be taken from anything but a
//! certificate that the authority has signed.

use std::fmt;
use std::str::FromStr;

/// What the node of a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertRole {
    /// Be the primary, and all that a relay may.
    Primary,
    /// Hand on what the primary has made, and follow.
    Relay,
    /// Follow.
    Secondary,
}

impl CertRole {
    /// The role of a node of this name where nobody has said another: what the name begins with. A
    /// secondary may relay, since any may be given a `replication.listen` later; a name that says
    /// nothing keeps no node from anything.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let begins = |word: &str| {
            let beginning = name.get(..word.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(word))
        };
        match begins("relay") || begins("secondary") {
            true => Self::Relay,
            false => Self::Primary,
        }
    }

    /// Its name on the command line and in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Relay => "relay",
            Self::Secondary => "secondary",
        }
    }

    /// What it allows, for people.
    #[must_use]
    pub fn allows(self) -> &'static str {
        match self {
            Self::Primary => "it may be the primary, relay and follow",
            Self::Relay => "it may follow and relay, but not be the primary",
            Self::Secondary => "it may follow, but nobody follows it",
        }
    }

    /// What stands in the certificate's subject, as its organizational unit.
    pub(crate) fn unit(self) -> String {
        format!("{UNIT}{}", self.as_str())
    }

    /// What an organizational unit means; one that is not known allows the least.
    pub(crate) fn of_unit(unit: &str) -> Option<Self> {
        let name = unit.strip_prefix(UNIT)?;
        Some(name.parse().unwrap_or(Self::Secondary))
    }
}

impl FromStr for CertRole {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Primary, Self::Relay, Self::Secondary]
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| format!("{name:?} is none of primary, relay and secondary"))
    }
}

impl fmt::Display for CertRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a node does that others have to trust it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Says what the log is.
    Primary,
    /// Hands it on.
    Relay,
}

/// Why the node of a certificate may not do this, as one sees it whose own certificate has this
/// role; none: it may. A certificate of an earlier version has no role: it is believed by those
/// alone that have none themselves.
pub(crate) fn refusal(
    peer: Option<CertRole>,
    duty: Duty,
    own: Option<CertRole>,
) -> Option<&'static str> {
    match (peer, duty) {
        (Some(CertRole::Primary), _) | (Some(CertRole::Relay), Duty::Relay) => None,
        (Some(CertRole::Relay), Duty::Primary) => {
            Some("its certificate lets it relay, and not be the primary")
        }
        (Some(CertRole::Secondary), _) => {
            Some("its certificate lets it follow, and nobody else follow it")
        }
        (None, _) if own.is_some() => {
            Some("its certificate says nothing of what it may do, and that of this node does")
        }
        (None, _) => None,
    }
}

/// Before the role in an organizational unit.
const UNIT: &str = "headwater-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_role_where_nobody_else_does() {
        for (name, role) in [
            ("primary", CertRole::Primary),
            ("Primary-1", CertRole::Primary),
            ("relay-2", CertRole::Relay),
            ("secondary-1", CertRole::Relay),
            ("my-secondary", CertRole::Primary),
            ("second", CertRole::Primary),
            ("n1", CertRole::Primary),
        ] {
            assert_eq!(CertRole::of_name(name), role, "{name}");
        }
    }

    #[test]
    fn units_are_read_as_they_were_written_and_what_is_unknown_allows_the_least() {
        for role in [CertRole::Primary, CertRole::Relay, CertRole::Secondary] {
            assert_eq!(CertRole::of_unit(&role.unit()), Some(role));
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        let newer = CertRole::of_unit("headwater-king");
        assert_eq!(newer, Some(CertRole::Secondary));
        assert_eq!(CertRole::of_unit("Sales"), None);
        assert!("any".parse::<CertRole>().is_err());
    }

    #[test]
    fn nobody_serves_who_was_not_given_the_right_to() {
        use CertRole::{Primary, Relay, Secondary};
        for (peer, duty, own, may) in [
            (Some(Primary), Duty::Primary, Some(Secondary), true),
            (Some(Primary), Duty::Relay, None, true),
            (Some(Relay), Duty::Relay, Some(Secondary), true),
            (Some(Relay), Duty::Primary, Some(Secondary), false),
            (Some(Relay), Duty::Primary, None, false),
            (Some(Secondary), Duty::Relay, Some(Secondary), false),
            (Some(Secondary), Duty::Primary, None, false),
            (None, Duty::Primary, Some(Secondary), false),
            (None, Duty::Primary, None, true),
        ] {
            let refused = refusal(peer, duty, own);
            assert_eq!(refused.is_none(), may, "{peer:?} {duty:?} {own:?}");
        }
    }
}
