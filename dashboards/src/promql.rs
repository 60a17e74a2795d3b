//! Names in a PromQL expression: its metrics and labels. No parser of the language, which Prometheus has: names are told apart by what
//! stands around them.

use std::iter::Peekable;
use std::str::Chars;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Every selector: a metric, and the labels that it is matched by.
    pub selectors: Vec<(String, Vec<String>)>,
    /// Labels that it groups, joins or ranks by.
    pub groupings: Vec<String>,
}

/// A word or a sign of the language. Strings, numbers, ranges and white space are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Words behind which a list of labels stands.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that are no metric though no parenthesis follows them.
const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

/// The names in an expression.
#[must_use]
pub fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut tokens = tokens(expression).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let Token::Word(word) = token else { continue };
        if BEFORE_LABELS.contains(&&*word) {
            if tokens.next_if_eq(&Token::Sign('(')).is_some() {
                names.groupings.extend(words_until(&mut tokens, ')'));
            }
        } else if !OPERATORS.contains(&&*word) && !tokens.peek().is_some_and(follows_function) {
            let matched = tokens.next_if_eq(&Token::Sign('{'));
            let labels = matched.map_or_else(Vec::new, |_| words_until(&mut tokens, '}'));
            names.selectors.push((word, labels));
        }
    }
    names
}

/// Whether the word before it is a function or an aggregation.
fn follows_function(token: &Token) -> bool {
    match token {
        Token::Sign(sign) => *sign == '(',
        Token::Word(word) => word == "by" || word == "without",
    }
}

fn words_until(tokens: &mut impl Iterator<Item = Token>, end: char) -> Vec<String> {
    let inside = tokens.take_while(|token| *token != Token::Sign(end));
    inside
        .filter_map(|token| match token {
            Token::Word(word) => Some(word),
            Token::Sign(_) => None,
        })
        .collect()
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '"' | '\'' | '`' => skip_string(&mut rest, first),
            '[' => skip_until(&mut rest, ']'),
            '#' => skip_until(&mut rest, '\n'),
            '$' => drop(word(&mut rest)),
            _ if first.is_ascii_digit() => drop(word(&mut rest)),
            _ if is_of_word(first) => tokens.push(Token::Word(format!("{first}{}", word(&mut rest)))),
            // A modifier, such as `@ end()`: no name.
            '@' => skip_until(&mut rest, ')'),
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token::Sign(first)),
        }
    }
    tokens
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(letter) = rest.next_if(|letter| is_of_word(*letter)) {
        word.push(letter);
    }
    word
}

fn skip_until(rest: &mut Peekable<Chars<'_>>, end: char) {
    let _ = rest.find(|letter| *letter == end);
}

fn skip_string(rest: &mut Peekable<Chars<'_>>, quote: char) {
    while let Some(letter) = rest.next() {
        if letter == '\\' {
            rest.next();
        } else if letter == quote {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expression: &str) -> (Vec<(String, String)>, String) {
        let names = names(expression);
        let selectors = names.selectors.into_iter();
        (
            selectors
                .map(|(metric, labels)| (metric, labels.join(" ")))
                .collect(),
            names.groupings.join(" "),
        )
    }

    #[test]
    fn metrics_labels_and_groupings_are_told_apart() {
        let (selectors, groupings) = found(
            "sum by (server, le) (rate(a_bucket{tenant=~\"x|by (y)\",le!='1'}[5m] offset 1h)) # c{d}\n\
             / on (job) group_left () 1e3 * b:c or d @ end() > bool 0.5",
        );
        let expected = [("a_bucket", "tenant le"), ("b:c", ""), ("d", "")];
        let expected = expected.map(|(metric, labels)| (metric.to_owned(), labels.to_owned()));
        assert_eq!(selectors, expected);
        assert_eq!(groupings, "server le job");
    }

    #[test]
    fn variables_and_ranges_are_no_names() {
        let (selectors, _) = found("topk($top, a{b=\"$b\"}[$__range] @ end()) and vector($link)");
        assert_eq!(selectors, [("a".to_owned(), "b".to_owned())]);
    }
}
