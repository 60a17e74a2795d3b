//! Bytes of RESP, built.

/// A command as an array of strings.
pub(crate) fn command(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(string(b'$', argument));
    }
    bytes
}

/// A command from its words.
pub(crate) fn words(line: &str) -> Vec<u8> {
    command(&line.split(' ').collect::<Vec<_>>())
}

/// A string with its length before it.
pub(crate) fn string(kind: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [
        &[kind],
        format!("{}\r\n", content.len()).as_bytes(),
        content,
        b"\r\n",
    ]
    .concat()
}

/// A string reply.
pub(crate) fn bulk(content: impl AsRef<[u8]>) -> Vec<u8> {
    string(b'$', content)
}
