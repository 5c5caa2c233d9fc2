//! Both ends of a fetch over a real connection. They must never wait for a time to pass where they
//! can wait for an outcome.

use super::*;
use crate::tests::loopback::{LOG, Pair, Shelf, segment};

/// Asks the far node of a pair, which serves meanwhile.
async fn ask_far(pair: &Pair, far: &Shelf, log: LogId, name: &str) -> Result<Bytes, FetchError> {
    let (giving, places) = (Giving::of(far), Places::new());
    tokio::select! {
        answer = ask(&pair.secondary, log, name, None) => answer,
        error = serve(&pair.primary, &giving, &places) => panic!("serving ended: {error}"),
    }
}

#[tokio::test]
async fn files_of_every_length_come_whole() {
    let pair = Pair::connect().await;
    for length in [0, 1, PIECE, 2 * PIECE, 3 * PIECE, 5 * PIECE + 17] {
        let file: Bytes = (0..length).map(|i| (i % 251).to_le_bytes()[0]).collect();
        let far = Shelf::holding(segment(7), file.clone());
        let got = ask_far(&pair, &far, LOG, &segment(7)).await.expect("comes");
        assert!(got == file, "{} of {length} bytes", got.len());
    }
}

#[tokio::test]
async fn a_primary_asks_its_secondary_the_same_way() {
    let pair = Pair::connect().await;
    let file = Bytes::from(vec![5; 3 * PIECE + 1]);
    let far = Shelf::holding("parquet/a.parquet".to_owned(), file.clone());
    let (giving, places) = (Giving::of(&far), Places::new());
    let got = tokio::select! {
        answer = ask(&pair.primary, LOG, "parquet/a.parquet", None) => answer.expect("comes"),
        error = serve(&pair.secondary, &giving, &places) => panic!("serving ended: {error}"),
    };
    assert!(got == file, "{} bytes", got.len());
}

#[tokio::test]
async fn what_is_not_held_is_answered_and_the_next_fetch_works() {
    let pair = Pair::connect().await;
    let far = Shelf::holding(segment(7), Bytes::from_static(b"seven"));
    let other = LogId([1; 16]);
    for (log, name) in [(LOG, segment(8)), (other, segment(7))] {
        let error = ask_far(&pair, &far, log, &name).await.expect_err("no file");
        assert!(matches!(error, FetchError::NotSent(_)), "{error}");
    }
    let error = ask_far(&pair, &far, LOG, "../keys.log").await;
    assert!(matches!(error, Err(FetchError::Name)), "{error:?}");
    let got = ask_far(&pair, &far, LOG, &segment(7)).await;
    assert_eq!(got.expect("comes"), Bytes::from_static(b"seven"));
}

#[test]
fn a_name_is_checked_before_the_disk_is_asked() {
    let held = Shelf::holding("../keys".to_owned(), Bytes::from_static(b"secret"));
    let name = || "../keys".to_owned();
    let whole = Question::Whole(Fetch {
        log: LOG.0,
        name: name(),
    });
    assert!(find(&held, None, None, &whole).is_err());
    let rest = Question::Rest(FetchFrom {
        log: LOG.0,
        name: name(),
        from: 0,
    });
    assert!(find(&held, None, None, &rest).is_err());
}

/// Keeps what comes, and gives the file up after so many bytes.
struct Taking {
    got: Vec<u8>,
    announced: u64,
    until: usize,
}

impl Sink for Taking {
    fn announced(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.announced = bytes;
        Ok(())
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), FetchError> {
        self.got.extend_from_slice(&bytes);
        match self.got.len() <= self.until {
            true => Ok(()),
            false => Err(FetchError::Protocol("enough")),
        }
    }
}

fn taking() -> Taking {
    Taking {
        got: Vec::new(),
        announced: 0,
        until: usize::MAX,
    }
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251).to_le_bytes()[0]).collect()
}

/// Asks the far node for the rest of a file, which serves meanwhile as fast as this allows.
async fn ask_rest(
    pair: &Pair,
    giving: &Giving<'_, Shelf>,
    name: &str,
    from: usize,
    sink: &mut Taking,
) -> Result<u64, FetchError> {
    let (places, from) = (Places::new(), from as u64);
    tokio::select! {
        answer = ask_from(&pair.secondary, LOG, name, from, sink) => answer,
        error = serve(&pair.primary, giving, &places) => panic!("serving ended: {error}"),
    }
}

#[tokio::test]
async fn a_file_goes_on_from_every_chunk() {
    let pair = Pair::connect().await;
    for length in [0, 1, PIECE, 2 * PIECE, 4 * PIECE + 17] {
        let file = pattern(length);
        let far = Shelf::holding(segment(7), file.clone());
        let giving = Giving::of(&far);
        for from in (0..=length).step_by(CHUNK_LEN) {
            let mut sink = taking();
            let came = ask_rest(&pair, &giving, &segment(7), from, &mut sink).await;
            let rest = &file[from..];
            assert_eq!(came.expect("comes"), rest.len() as u64);
            assert_eq!(sink.announced, rest.len() as u64);
            assert!(
                sink.got == rest,
                "{} of {length} from {from}",
                sink.got.len()
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_from_inside_a_chunk_or_beyond_the_end() {
    let pair = Pair::connect().await;
    let far = Shelf::holding(segment(7), pattern(PIECE + 5));
    let giving = Giving::of(&far);
    for from in [1, CHUNK_LEN - 1, CHUNK_LEN + 5, 2 * CHUNK_LEN] {
        let answer = ask_rest(&pair, &giving, &segment(7), from, &mut taking()).await;
        assert!(matches!(answer, Err(FetchError::NotSent(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_sink_that_has_enough_ends_one_fetch_and_no_more() {
    let pair = Pair::connect().await;
    let file = pattern(5 * PIECE);
    let far = Shelf::holding(segment(7), file.clone());
    let giving = Giving::of(&far);
    for until in [0, 1, PIECE, 2 * PIECE + 3, 4 * PIECE] {
        let mut sink = Taking { until, ..taking() };
        let answer = ask_rest(&pair, &giving, &segment(7), 0, &mut sink).await;
        assert!(matches!(answer, Err(FetchError::Protocol(_))), "{answer:?}");
        // The whole chunks are kept; the rest comes again.
        let held = sink.got.len() / CHUNK_LEN * CHUNK_LEN;
        let mut rest = taking();
        let answer = ask_rest(&pair, &giving, &segment(7), held, &mut rest).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert!([&sink.got[..held], &rest.got].concat() == file);
    }
}

#[tokio::test]
async fn a_manifest_is_given_to_whom_files_are_held_for() {
    let pair = Pair::connect().await;
    let far = Shelf::holding("manifest for me".to_owned(), Bytes::from_static(b"files"));
    let (leases, places) = (Leases::new(), Places::new());
    let manifest = async |giving: &Giving<'_, Shelf>| {
        tokio::select! {
            answer = ask_manifest(&pair.secondary, LOG) => answer,
            error = serve(&pair.primary, giving, &places) => panic!("serving ended: {error}"),
        }
    };
    let held_for = |id| Giving {
        leases: Some((&leases, id)),
        ..Giving::of(&far)
    };
    let got = manifest(&held_for("me")).await.expect("comes");
    assert_eq!(got, Bytes::from_static(b"files"));
    for giving in [held_for("another"), Giving::of(&far)] {
        let answer = manifest(&giving).await;
        assert!(matches!(answer, Err(FetchError::NotSent(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_limit_holds_files_back() {
    let pair = Pair::connect().await;
    let far = Shelf::holding(segment(7), pattern(PIECE + PIECE / 2));
    let mut sink = taking();
    let giving = Giving {
        limit: Limits::new(4 << 20, 0).peer(),
        ..Giving::of(&far)
    };
    let begun = std::time::Instant::now();
    let came = ask_rest(&pair, &giving, &segment(7), 0, &mut sink).await;
    assert_eq!(came.expect("comes"), (PIECE + PIECE / 2) as u64);
    // A tenth of a second's worth goes at once.
    let least = Duration::from_millis(1_500 / 4 - 110);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}

/// Asks a node that answers with these bytes.
async fn ask_liar(answer: File, bytes: &'static [u8]) -> FetchError {
    let pair = Pair::connect().await;
    let lie = async {
        let (mut sender, mut receiver) = pair.primary.accept_fetch().await.expect("a stream");
        let question = receiver.receive().await.expect("a message");
        assert!(matches!(question, Some(Message::Fetch(_))), "{question:?}");
        sender.send(&Message::File(answer)).await.expect("sent");
        // Fails when the other side has seen enough.
        let _ = sender.send_raw(Bytes::from_static(bytes)).await;
        sender.finish();
    };
    let wanted = segment(7);
    let (answer, ()) = tokio::join!(ask(&pair.secondary, LOG, &wanted, None), lie);
    answer.expect_err("must not be taken")
}

#[tokio::test]
async fn too_few_too_many_and_absurdly_many_bytes_are_errors() {
    let announced = |bytes| File {
        found: true,
        bytes,
        reason: String::new(),
    };
    let error = ask_liar(announced(6), b"short").await;
    assert!(matches!(error, FetchError::Link(_)), "{error}");
    let error = ask_liar(announced(4), b"longer").await;
    assert!(matches!(error, FetchError::Protocol(_)), "{error}");
    let error = ask_liar(announced(MAX_FILE_BYTES + 1), b"x").await;
    assert!(matches!(error, FetchError::Protocol(_)), "{error}");
    let error = ask_liar(announced(MAX_UNKNOWN_BYTES + 1), b"x").await;
    assert!(matches!(error, FetchError::Protocol(_)), "{error}");
    let error = ask_liar(announced(MAX_UNKNOWN_BYTES), b"little").await;
    assert!(matches!(error, FetchError::Link(_)), "{error}");
}
