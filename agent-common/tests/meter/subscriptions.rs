//! Confirmations that nobody asked for.

use crate::{resp::words, wire::Wire};

/// A cluster node that gives a slot away ends the subscriptions to its shard channels, whenever it likes.
#[test]
fn a_subscription_that_the_server_ends_answers_no_command() {
    for kind in ['*', '>'] {
        let mut wire = Wire::from_start();
        let confirmation = |name: &str, left| {
            format!(
                "{kind}3\r\n${}\r\n{name}\r\n$4\r\nnews\r\n:{left}\r\n",
                name.len()
            )
        };
        wire.request(words("SSUBSCRIBE news"));
        wire.reply(confirmation("ssubscribe", 1));
        wire.request(words("PING"));
        wire.reply(confirmation("sunsubscribe", 0));
        wire.reply("+PONG\r\n");
        wire.reply(confirmation("sunsubscribe", 0).replace('*', ">"));
        wire.request(words("MGET cart:1 cart:2 cart:3"));
        wire.reply("*3\r\n$-1\r\n$-1\r\n:1\r\n");
        let books = wire.books();
        assert_eq!(books.row("(keyless)").bytes_out, 7, "{books:?}");
        assert_eq!(books.row("cart").bytes_out, 18, "{books:?}");
        assert!(books.unattributed.is_empty(), "{books:?}");
    }
}
