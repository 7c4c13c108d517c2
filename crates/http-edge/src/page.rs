use std::borrow::Cow;

use axum::{
    extract::{FromRequestParts, Query},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{FieldError, Problem};

/// How many items a page has when the request does not say.
const DEFAULT_LIMIT: u16 = 100;
/// About how long an item is as JSON.
const BYTES_OF_AN_ITEM: usize = 320;
/// How many items a page has at most.
const LARGEST_LIMIT: u16 = 1000;

/// Which page of a list is asked for: `limit` and `cursor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// How many items the page may have.
    pub limit: u16,
    /// Where the page begins: what the page before named as its end.
    pub cursor: Option<String>,
    path: String,
    rest: Vec<(String, String)>,
}

/// One page of a list: a plain array, with the next page in the `Link` header.
pub struct Page<T> {
    items: Vec<T>,
    link: Option<HeaderValue>,
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "Malformed query"))?;
        let original = parts.extensions.get::<axum::extract::OriginalUri>();
        let path = original.map_or_else(|| parts.uri.path(), |uri| uri.path()).to_owned();
        Self::parse(path, pairs)
    }
}

impl PageQuery {
    fn parse(path: String, pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let limit = match only(&pairs, "limit")? {
            None => DEFAULT_LIMIT,
            Some(limit) => limit.parse().ok().filter(|limit| (1..=LARGEST_LIMIT).contains(limit)).ok_or_else(|| {
                let message = format!("must be a whole number from 1 to {LARGEST_LIMIT}");
                Problem::invalid(vec![FieldError { field: "limit".to_owned(), message }])
            })?,
        };
        let cursor = only(&pairs, "cursor")?.map(ToOwned::to_owned);
        let rest = pairs.into_iter().filter(|(key, _)| !["limit", "cursor"].contains(&key.as_str())).collect();
        Ok(Self { limit, cursor, path, rest })
    }

    /// What the query says about `key`, which is one of the list's own.
    ///
    /// # Errors
    /// 422 when it says more than one thing.
    pub fn query_param(&self, key: &str) -> Result<Option<&str>, Problem> {
        only(&self.rest, key)
    }

    /// A problem that says the cursor is none of ours.
    #[must_use]
    pub fn wrong_cursor() -> Problem {
        let message = "must be taken from the Link header of the page before".to_owned();
        Problem::invalid(vec![FieldError { field: "cursor".to_owned(), message }])
    }

    /// The page that `items` make. Give one item more than [`PageQuery::limit`] when there are more;
    /// `cursor` names the place after an item.
    #[must_use]
    pub fn page<T>(&self, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > usize::from(self.limit);
        items.truncate(usize::from(self.limit));
        let next = more.then(|| items.last().map(&cursor)).flatten();
        let link = next.and_then(|cursor| HeaderValue::try_from(self.link_to(&cursor)).ok());
        Page { items, link }
    }

    fn link_to(&self, cursor: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.rest);
        query.append_pair("limit", &self.limit.to_string()).append_pair("cursor", cursor);
        // Relative to the request, so that it is right behind a gateway's prefix as well.
        let name: Cow<'_, str> = self.path.rsplit('/').next().map_or(Cow::Borrowed(""), Cow::Borrowed);
        format!("<{name}?{}>; rel=\"next\"", query.finish())
    }
}

/// The one value of `key`. Of two, the server could not tell which is meant.
fn only<'a>(pairs: &'a [(String, String)], key: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => {
            let message = "must be given once".to_owned();
            Err(Problem::invalid(vec![FieldError { field: key.to_owned(), message }]))
        }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        // Grown step by step, a long page would be copied again and again.
        let mut json = Vec::with_capacity(BYTES_OF_AN_ITEM * (1 + self.items.len()));
        if let Err(error) = serde_json::to_writer(&mut json, &self.items) {
            return Problem::internal("write a page", &error).into_response();
        }
        let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
        if let Some(link) = self.link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_named_while_there_is_more() {
        let pairs = vec![("limit".to_owned(), "2".to_owned()), ("type".to_owned(), "arrivals".to_owned())];
        let query = PageQuery::parse("/data-collector/flights/LFPG".to_owned(), pairs).expect("a query");
        let page = query.page(vec![1, 2, 3], ToString::to_string);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(page.link.expect("there is more"), "<LFPG?type=arrivals&limit=2&cursor=2>; rel=\"next\"");
        assert!(query.page(vec![1, 2], ToString::to_string).link.is_none());
    }

    #[tokio::test]
    async fn a_query_is_read_from_a_request() {
        let request = axum::http::Request::get("/users?limit=7&cursor=x%20y&type=a").body(()).expect("a request");
        let mut parts = request.into_parts().0;
        let query = PageQuery::from_request_parts(&mut parts, &()).await.expect("a query");
        assert_eq!((query.limit, query.cursor.as_deref()), (7, Some("x y")));
        assert_eq!((query.query_param("type"), query.query_param("metric")), (Ok(Some("a")), Ok(None)));
    }

    #[test]
    fn what_is_given_twice_is_refused_where_it_means_something() {
        let twice = |key: &str| {
            let pairs = ["1", "1"].map(|value| (key.to_owned(), value.to_owned()));
            PageQuery::parse(String::new(), pairs.into())
        };
        assert!(twice("limit").is_err() && twice("cursor").is_err());
        let query = twice("type").expect("a list that has no types");
        assert_eq!(query.query_param("type").expect_err("a list that has").status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        for limit in ["0", "1001", "-1", "many"] {
            let pairs = vec![("limit".to_owned(), limit.to_owned())];
            assert!(PageQuery::parse(String::new(), pairs).is_err(), "{limit}");
        }
    }
}
