//! The topic aliases of one MQTT 5 connection. Pure; must never keep bytes of the read buffer, nor
//! more than the bounds at its end say.

use std::num::NonZeroU16;

use ntex::util::ByteString;

/// The topics that a client has given numbers; grows once, when the first one comes.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    topics: Vec<Option<ByteString>>,
    /// Length of all of them.
    bytes: usize,
}

/// Why a PUBLISH has no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadAlias {
    /// It has none, and its alias means none.
    Unknown,
    /// The topics with an alias are too long together.
    TooLong,
}

impl Aliases {
    /// The topic that a PUBLISH with this alias means.
    pub(crate) fn resolve(
        &mut self,
        topic: &ByteString,
        alias: NonZeroU16,
    ) -> Result<ByteString, BadAlias> {
        if alias.get() > MAX_ALIASES {
            return Err(BadAlias::Unknown);
        }
        self.topics.resize(usize::from(MAX_ALIASES) + 1, None);
        let slot = self
            .topics
            .get_mut(usize::from(alias.get()))
            .ok_or(BadAlias::Unknown)?;
        if !topic.is_empty() {
            let before = slot.as_ref().map_or(0, |before| before.len());
            let bytes = self.bytes - before + topic.len();
            if bytes > MAX_ALIAS_BYTES {
                return Err(BadAlias::TooLong);
            }
            self.bytes = bytes;
            // A copy: the topic's own bytes would pin a page of the read buffer.
            *slot = Some(ByteString::from(String::from(&**topic)));
        }
        slot.clone().ok_or(BadAlias::Unknown)
    }

    /// Heap that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.topics.capacity() * size_of::<Option<ByteString>>() + self.bytes
    }
}

/// Topic aliases a client may set.
pub(crate) const MAX_ALIASES: u16 = 32;

/// Length of all topics together that a client has given aliases.
pub(crate) const MAX_ALIAS_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(aliases: &mut Aliases, topic: &str, alias: u16) -> Result<String, BadAlias> {
        let alias = NonZeroU16::new(alias).expect("not zero");
        let topic = ByteString::from(topic.to_owned());
        Ok(aliases.resolve(&topic, alias)?.to_string())
    }

    #[test]
    fn an_alias_means_the_topic_it_came_with_last() {
        let mut aliases = Aliases::default();
        let mut resolve = |topic, alias| set(&mut aliases, topic, alias);
        assert_eq!(resolve("", 1), Err(BadAlias::Unknown));
        assert_eq!(resolve("a/b", 1).as_deref(), Ok("a/b"));
        assert_eq!(resolve("", 1).as_deref(), Ok("a/b"));
        assert_eq!(resolve("c", 1).as_deref(), Ok("c"));
        assert_eq!(resolve("", 1).as_deref(), Ok("c"));
        assert_eq!(resolve("d", MAX_ALIASES).as_deref(), Ok("d"));
        assert_eq!(resolve("e", MAX_ALIASES + 1), Err(BadAlias::Unknown));
    }

    #[test]
    fn all_topics_together_have_a_bound() {
        let mut aliases = Aliases::default();
        let long = "x".repeat(MAX_ALIAS_BYTES - 100);
        assert!(set(&mut aliases, &long, 1).is_ok());
        assert_eq!(
            set(&mut aliases, &"y".repeat(101), 2),
            Err(BadAlias::TooLong)
        );
        assert!(set(&mut aliases, &"y".repeat(100), 2).is_ok());
        // One that takes the place of another counts once.
        for _ in 0..10 {
            assert!(set(&mut aliases, &long, 1).is_ok());
        }
        assert!(set(&mut aliases, "short", 1).is_ok());
        assert!(set(&mut aliases, &"z".repeat(3_000), 3).is_ok());
        assert!(aliases.bytes() <= MAX_ALIAS_BYTES + 33 * 64);
    }
}
