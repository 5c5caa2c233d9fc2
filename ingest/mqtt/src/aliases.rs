//! The topic aliases of one MQTT 5 connection. Pure; must never keep bytes of the read buffer.

use std::num::NonZeroU16;

use ntex::util::ByteString;

/// The topics that a client has given numbers; grows once, when the first one comes.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    topics: Vec<Option<ByteString>>,
}

impl Aliases {
    /// The topic that a PUBLISH with this alias means; `None` when the alias is not valid.
    pub(crate) fn resolve(&mut self, topic: &ByteString, alias: NonZeroU16) -> Option<ByteString> {
        if alias.get() > MAX_ALIASES {
            return None;
        }
        self.topics.resize(usize::from(MAX_ALIASES) + 1, None);
        let slot = self.topics.get_mut(usize::from(alias.get()))?;
        if !topic.is_empty() {
            // A copy: the topic's own bytes would pin a page of the read buffer.
            *slot = Some(ByteString::from(String::from(&**topic)));
        }
        slot.clone()
    }
}

/// Topic aliases a client may set.
pub(crate) const MAX_ALIASES: u16 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_means_the_topic_it_came_with_last() {
        let mut aliases = Aliases::default();
        let mut resolve = |topic: &'static str, alias| {
            let alias = NonZeroU16::new(alias).expect("not zero");
            let topic = aliases.resolve(&ByteString::from_static(topic), alias)?;
            Some(topic.to_string())
        };
        assert_eq!(resolve("", 1), None);
        assert_eq!(resolve("a/b", 1).as_deref(), Some("a/b"));
        assert_eq!(resolve("", 1).as_deref(), Some("a/b"));
        assert_eq!(resolve("c", 1).as_deref(), Some("c"));
        assert_eq!(resolve("", 1).as_deref(), Some("c"));
        assert_eq!(resolve("d", MAX_ALIASES).as_deref(), Some("d"));
        assert_eq!(resolve("e", MAX_ALIASES + 1), None);
    }
}
