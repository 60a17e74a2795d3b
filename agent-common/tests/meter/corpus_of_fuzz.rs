//! What the fuzz targets have collected, without the fuzzer: every file of `tests/fuzz/corpus` goes through the target that
//! it was made for.

use std::{fs, path::Path};

use crate::{noise, random};

#[test]
fn the_corpus_of_any_bytes_stays_in_the_books() {
    each_file("bytes", noise::check);
}

#[test]
fn the_corpus_of_conversations_has_the_books_of_the_model() {
    each_file("conversations", |input| {
        let checked = random::checks::check(&random::Script::from_bytes(input));
        assert!(checked.is_ok(), "{}", checked.unwrap_err());
    });
}

fn each_file(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the folder of the corpus") {
        let path = entry.expect("a folder that can be read").path();
        // Captured, and shown when the test fails: the last line is the culprit.
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file that can be read"));
        files += 1;
    }
    assert!(files >= 100, "{files} files in {}", folder.display());
}
