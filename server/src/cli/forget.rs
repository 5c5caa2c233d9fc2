//! `headwater forget`: strikes a secondary that is gone off a node's list. Must never touch what a
//! secondary holds.

use crate::cli::client::{self, Client, ClientError};
use crate::cli::output::say;

/// Why it is still on the list.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForgetError {
    #[error("{name} is connected to {url} and would be on its list again at once; stop it first")]
    Connected { name: String, url: String },
    #[error("{url}: {reason}; see: headwater status --url {url}")]
    Unknown { url: String, reason: String },
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Asks, and says that it is done.
pub(super) fn run(url: &str, name_or_id: &str) -> Result<(), ForgetError> {
    let client = Client::new(url)?;
    let done = client.forget(name_or_id);
    done.map_err(|error| told(error, client.url(), name_or_id))?;
    say!("{} has forgotten {name_or_id}", client.url());
    Ok(())
}

fn told(error: client::ForgetError, url: &str, name_or_id: &str) -> ForgetError {
    let url = url.to_owned();
    match error {
        client::ForgetError::Connected(_) => ForgetError::Connected {
            name: name_or_id.to_owned(),
            url,
        },
        client::ForgetError::Unknown(refusal) => ForgetError::Unknown {
            url,
            reason: refusal.error,
        },
        client::ForgetError::Client(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Refusal;

    #[test]
    fn refusals_say_what_to_do() {
        let refusal = |code: &str| -> Refusal {
            let json = format!(r#"{{"error": "no secondary called s", "code": "{code}"}}"#);
            serde_json::from_str(&json).unwrap()
        };
        let connected = client::ForgetError::Connected(refusal("connected"));
        assert_eq!(
            told(connected, "http://a", "s").to_string(),
            "s is connected to http://a and would be on its list again at once; stop it first"
        );
        let unknown = client::ForgetError::Unknown(refusal("not_found"));
        assert_eq!(
            told(unknown, "http://a", "s").to_string(),
            "http://a: no secondary called s; see: headwater status --url http://a"
        );
    }
}
