//! Schema ids may hold slashes (files are named by their paths), and the official clients
//! put them into paths as they are. Here such an id becomes one segment of the path again.

use axum::{Router, extract::Request, http::Uri};
use tower::ServiceBuilder;

/// What may stand behind a schema id: so many segments, of which the first is this word.
const TAILS: [(&str, usize); 6] = [
    ("records", 1),
    ("primary_keys", 1),
    ("fields", 1),
    ("fields", 2),
    ("cancel", 1),
    ("consolelog", 1),
];

/// The router, reached by schema ids with slashes too.
pub fn taken_whole(router: Router) -> Router {
    let service = ServiceBuilder::new()
        .map_request(|mut request: Request| {
            if let Some(uri) = whole(request.uri()) {
                *request.uri_mut() = uri;
            }
            request
        })
        .service(router);
    Router::new().fallback_service(service)
}

fn whole(uri: &Uri) -> Option<Uri> {
    let path = encoded(uri.path())?;
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The path with the slashes of a schema id encoded, or nothing where there are none.
fn encoded(path: &str) -> Option<String> {
    let (before, rest) = id_of(path)?;
    let segments: Vec<&str> = rest.split('/').collect();
    let tail = TAILS
        .iter()
        .filter(|(word, length)| {
            segments.len() > *length && segments.get(segments.len() - length) == Some(word)
        })
        .map(|(_, length)| *length)
        .max()
        .unwrap_or(0);
    let (id, tail) = segments.split_at(segments.len() - tail);
    if id.len() < 2 {
        return None;
    }
    let tail: String = tail.iter().map(|segment| format!("/{segment}")).collect();
    Some(format!("{before}{}{tail}", id.join("%2F")))
}

/// What stands before a schema id, and the rest that begins with it.
fn id_of(path: &str) -> Option<(&str, &str)> {
    let resource = path.strip_prefix("/api/")?;
    let depth = match resource.split('/').collect::<Vec<_>>().as_slice() {
        ["connections", _, "schemas", ..] => 3,
        ["bulk", "source", _, "schema", ..] | ["bulk", "syncs", _, "schemas", ..] => 4,
        ["bulk", "syncs", _, "executions", _, "schemas", ..] => 6,
        _ => return None,
    };
    let (slash, _) = resource.match_indices('/').nth(depth - 1)?;
    Some(path.split_at("/api/".len() + slash + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_of_an_id_are_encoded_and_those_behind_it_are_not() {
        for (sent, meant) in [
            (
                "/api/connections/1/schemas/a/b",
                "/api/connections/1/schemas/a%2Fb",
            ),
            (
                "/api/connections/1/schemas/a/b/records",
                "/api/connections/1/schemas/a%2Fb/records",
            ),
            (
                "/api/connections/1/schemas/a/b/c/fields/x",
                "/api/connections/1/schemas/a%2Fb%2Fc/fields/x",
            ),
            (
                "/api/connections/1/schemas/a/b/fields",
                "/api/connections/1/schemas/a%2Fb/fields",
            ),
            (
                "/api/bulk/syncs/1/schemas/a/b/cancel",
                "/api/bulk/syncs/1/schemas/a%2Fb/cancel",
            ),
            (
                "/api/bulk/syncs/1/executions/2/schemas/a/b/consolelog",
                "/api/bulk/syncs/1/executions/2/schemas/a%2Fb/consolelog",
            ),
            (
                "/api/bulk/source/1/schema/a/b",
                "/api/bulk/source/1/schema/a%2Fb",
            ),
        ] {
            assert_eq!(encoded(sent).as_deref(), Some(meant));
        }
    }

    #[test]
    fn other_paths_stay_as_they_are() {
        for path in [
            "/api/connections/1/schemas/public.orders",
            "/api/connections/1/schemas/public.orders/records",
            "/api/connections/1/schemas/public.orders/fields/city",
            "/api/connections/1/schemas/a%2Fb/records",
            "/api/connections/1/schemas/refresh",
            "/api/connections/1/schemas",
            "/api/bulk/syncs/1/schemas",
            "/api/bulk/syncs/1/executions/2/logs/export",
            "/healthz",
        ] {
            assert_eq!(encoded(path), None, "{path}");
        }
    }

    #[test]
    fn the_query_string_is_kept() {
        let uri = "/api/connections/1/schemas/a/b?x=1".parse().unwrap();
        assert_eq!(whole(&uri).unwrap(), "/api/connections/1/schemas/a%2Fb?x=1");
    }
}
