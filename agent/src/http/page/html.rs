//! Markup. What stands in this source may be markup; whatever else becomes part of a page is text, and is escaped: names come from the
//! configuration, from processes of the host and from clients.

use std::fmt::{self, Write as _};

/// Markup in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

/// Writes markup: literals as they are, expressions in parentheses as text, unless they are [`Html`] already.
macro_rules! html {
    ($($part:tt)*) => {{
        let mut made = $crate::http::page::html::Html::default();
        $(html_part!(made $part);)*
        made
    }};
}

/// One part of [`html!`].
macro_rules! html_part {
    ($made:ident ($part:expr)) => {
        $crate::http::page::html::Part::add_to(&$part, &mut $made)
    };
    ($made:ident $markup:literal) => {
        $made.raw($markup)
    };
}

/// What can be put into a page.
pub(super) trait Part {
    fn add_to(&self, page: &mut Html);
}

impl Html {
    /// Words of this source: nothing that is made at run time lives for ever.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    pub(super) fn text(&mut self, text: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
    }

    pub(super) fn add(&mut self, part: impl Part) {
        part.add_to(self);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Part for Html {
    fn add_to(&self, page: &mut Html) {
        page.0.push_str(&self.0);
    }
}

impl<T: Part> Part for Option<T> {
    fn add_to(&self, page: &mut Html) {
        if let Some(part) = self {
            part.add_to(page);
        }
    }
}

impl<T: Part + ?Sized> Part for &T {
    fn add_to(&self, page: &mut Html) {
        (**self).add_to(page);
    }
}

macro_rules! texts {
    ($($kind:ty),*) => {
        $(impl Part for $kind {
            fn add_to(&self, page: &mut Html) {
                page.text(self);
            }
        })*
    };
}

texts!(str, String, usize, u64, f64);

impl<T: Part> FromIterator<T> for Html {
    fn from_iter<I: IntoIterator<Item = T>>(parts: I) -> Self {
        let mut html = Self::default();
        for part in parts {
            html.add(part);
        }
        html
    }
}

/// A name that somebody else has chosen. In a direction of its own: letters written from right to left leave the rest as it is.
pub(super) fn name(name: &str) -> Html {
    html!("<bdi>" (name) "</bdi>")
}

struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // A page has no use for them, and HTML does not allow them.
                hidden if hidden.is_control() && !hidden.is_whitespace() => self.0.push('\u{fffd}'),
                plain => self.0.push(plain),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_in_this_source_is_text_wherever_it_stands() {
        let hostile = "\"><script>alert('&')</script>\0".to_owned();
        let made = html!("<a href=\"" (hostile) "\">" (name(&hostile)) "</a>" (Some(html!("<br>"))) (7_u64));
        let text = "&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\u{fffd}";
        assert_eq!(
            made.into_string(),
            format!("<a href=\"{text}\"><bdi>{text}</bdi></a><br>7")
        );
    }
}
