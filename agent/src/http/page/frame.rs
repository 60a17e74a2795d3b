//! What surrounds every page: its head, the way to the others, and the files that it refers to.

use std::sync::OnceLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::html::{Html, name};
use crate::alerts::host_name;

/// Nothing but what this agent serves: no script, style, picture or request of any other place, and none that stands in a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Files of the pages, by their names.
const FILES: [(&str, &str, &str); 3] = [
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("assets/page.css"),
    ),
    (
        "page.js",
        "text/javascript; charset=utf-8",
        include_str!("assets/page.js"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// A browser keeps what can never change: another version has other paths.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// A page.
pub(in crate::http) struct Page {
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) title: String,
    /// Whether a script brings it up to date.
    pub(in crate::http) live: bool,
    pub(super) main: Html,
}

impl Page {
    /// One that says why there is nothing to see.
    pub(in crate::http) fn sorry(status: StatusCode, title: &'static str, reason: &str) -> Self {
        Self {
            status,
            title: title.into(),
            live: false,
            main: html!("<h1>" (title) "</h1>\n<p>" (reason) "</p>\n<p><a href=\"/\">The state of this host</a></p>\n"),
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.document().into_string()).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Page {
    fn document(&self) -> Html {
        let version = version();
        let live = self.live.then(|| html!(" data-live"));
        let host = host();
        html!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta name=\"color-scheme\" content=\"light dark\">\n"
            "<title>" (self.title) " · " (host) " · Stormglass</title>\n"
            "<link rel=\"icon\" href=\"/assets/" (version) "/icon.svg\">\n"
            "<link rel=\"stylesheet\" href=\"/assets/" (version) "/page.css\">\n"
            "<script src=\"/assets/" (version) "/page.js\" defer></script>\n</head>\n<body>\n"
            "<a class=\"skip\" href=\"#main\">To the content</a>\n"
            "<header>\n<a class=\"brand\" href=\"/\"><img src=\"/assets/" (version) "/icon.svg\" alt=\"\" width=\"24\" height=\"24\">"
            "Stormglass</a>\n<span class=\"host\">" (name(host)) "</span>\n"
            "<nav aria-label=\"Pages\"><a href=\"/\">Now</a> <a href=\"/incidents\">Incidents</a></nav>\n"
            "<p id=\"state\"></p>\n</header>\n"
            "<p id=\"said\" class=\"unseen\" aria-live=\"polite\"></p>\n"
            "<main id=\"main\" tabindex=\"-1\"" (live) ">\n" (self.main) "</main>\n"
            "</body>\n</html>\n"
        )
    }
}

/// A file that pages refer to.
pub(in crate::http) async fn asset(Path((asked, name)): Path<(String, String)>) -> Response {
    let Some((_, kind, text)) = FILES.into_iter().find(|(known, ..)| *known == name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], text).into_response();
    if asked == version() {
        let for_ever = HeaderValue::from_static(FOR_EVER);
        response.headers_mut().insert(header::CACHE_CONTROL, for_ever);
    }
    response
}

/// Changes with the files.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let sum = FILES
            .iter()
            .fold(0, |sum, (.., text)| crc32c::crc32c_append(sum, text.as_bytes()));
        format!("{sum:08x}")
    })
}

/// Whose numbers these are, for somebody with many of these pages.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(host_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_nothing_inline_and_nothing_from_elsewhere() {
        let page = Page {
            status: StatusCode::OK,
            title: "a<b".into(),
            live: true,
            main: Html::default(),
        };
        let text = page.document().into_string();
        assert!(text.contains("<title>a&lt;b · "), "{text}");
        for inline in [
            "<style",
            "style=",
            " on",
            "http:",
            "https:",
            "javascript:",
            "data:",
        ] {
            assert!(!text.contains(inline), "{inline} in {text}");
        }
        for (name, _, file) in FILES {
            let elsewhere = ["http:", "https:", "url(", "@import", "eval("];
            let found = elsewhere
                .into_iter()
                .find(|word| file.replace("http://www.w3.org/2000/svg", "").contains(word));
            assert_eq!(found, None, "in {name}");
        }
        let unsafe_words = ["unsafe", "*", "data:", "http"];
        assert!(unsafe_words.into_iter().all(|word| !POLICY.contains(word)));
    }
}
