//! MQTT topic filters, in which `{name}` is another way to write `+`. Pure; must never allocate:
//! each message is matched against every route.

/// Why a text is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("a filter must have between 1 and 65535 bytes")]
    Length,
    #[error("a filter cannot hold U+0000")]
    Nul,
    #[error("# must be the whole last level")]
    Hash,
    #[error("+ must be a whole level")]
    Plus,
    #[error("{{name}} must be a whole level and have a name")]
    Name,
}

/// Whether a text can be a filter.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() || filter.len() > MAX_FILTER {
        return Err(FilterError::Length);
    }
    if filter.contains('\0') {
        return Err(FilterError::Nul);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterError::Hash);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::Plus);
        }
        if level.contains(['{', '}']) && !is_name(level) {
            return Err(FilterError::Name);
        }
    }
    Ok(())
}

/// Whether a topic is one of those the filter means.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    // Wildcards at the front do not mean the topics of servers.
    let mut hidden = topic.starts_with('$');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return !hidden;
        }
        let Some(level) = levels.next() else {
            return false;
        };
        let any = wanted == "+" || is_name(wanted);
        if (any && hidden) || (!any && wanted != level) {
            return false;
        }
        hidden = false;
    }
    levels.next().is_none()
}

/// Whether a level is `{name}`.
fn is_name(level: &str) -> bool {
    let name = level
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && !name.contains(['{', '}']))
}

/// Longest filter, in bytes: as long as a topic can be.
const MAX_FILTER: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_what_mqtt_says() {
        for (filter, topic, meant) in [
            ("plant/7", "plant/7", true),
            ("plant/7", "plant/7/x", false),
            ("plant/7/x", "plant/7", false),
            ("plant/+/t", "plant/7/t", true),
            ("plant/+/t", "plant/7/8/t", false),
            ("plant/{site}/t", "plant/7/t", true),
            ("{a}/{b}", "plant/7", true),
            ("{a}/{b}", "plant", false),
            ("plant/+", "plant", false),
            ("plant/+", "plant/", true),
            ("plant/#", "plant", true),
            ("plant/#", "plant/7/8", true),
            ("plant/#", "planted", false),
            ("#", "plant/7", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("{a}/x", "$SYS/x", false),
            ("$SYS/+", "$SYS/x", true),
            ("$SYS/#", "$SYS", true),
            ("+/+", "/x", true),
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
            assert_eq!(matches(filter, topic), meant, "{filter} and {topic}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (filter, error) in [
            ("", FilterError::Length),
            ("a\0", FilterError::Nul),
            ("a/#/b", FilterError::Hash),
            ("a#", FilterError::Hash),
            ("a/b+", FilterError::Plus),
            ("a/{}", FilterError::Name),
            ("a/{b}c", FilterError::Name),
            ("a/{{b}}", FilterError::Name),
        ] {
            assert_eq!(check_filter(filter), Err(error), "{filter}");
        }
        let long = "a".repeat(65_536);
        assert_eq!(check_filter(&long), Err(FilterError::Length));
    }
}
