//! `resolv.conf`: the node's servers, and the file a container gets.

use std::net::{IpAddr, SocketAddr};

/// Servers asked at most, as glibc does.
const SERVERS_MAX: usize = 3;

/// Name servers listed in a `resolv.conf`, at most three.
#[must_use]
pub fn servers(text: &str) -> Vec<SocketAddr> {
    fields(text, "nameserver")
        .filter_map(|mut rest| rest.next()?.parse::<IpAddr>().ok())
        .map(|addr| SocketAddr::new(addr, 53))
        .take(SERVERS_MAX)
        .collect()
}

/// The `resolv.conf` of a container, from its host's: our resolver, with the host's search list.
#[must_use]
pub fn for_container(host: &str) -> String {
    let mut text = String::from("nameserver 127.0.0.11\n");
    // The last one counts.
    if let Some(search) = fields(host, "search").last() {
        let domains: Vec<_> = search.collect();
        if !domains.is_empty() {
            text.push_str(&format!("search {}\n", domains.join(" ")));
        }
    }
    // A name without dots is first asked as it is: it is a service's.
    text.push_str("options ndots:0\n");
    text
}

fn fields<'a>(
    text: &'a str,
    key: &'a str,
) -> impl Iterator<Item = std::str::SplitWhitespace<'a>> + 'a {
    text.lines().filter_map(move |line| {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        (words.next() == Some(key)).then_some(words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_the_rest_is_not() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53 # local\noptions edns0\nnameserver ::1\nnameserver x\nnameserver";
        assert_eq!(
            servers(text),
            [
                "127.0.0.53:53".parse().unwrap(),
                "[::1]:53".parse().unwrap()
            ]
        );
    }

    #[test]
    fn a_container_gets_our_resolver_and_the_hosts_search_list() {
        assert_eq!(
            for_container("search a.example\nsearch lan example.org\nnameserver 9.9.9.9\n"),
            "nameserver 127.0.0.11\nsearch lan example.org\noptions ndots:0\n"
        );
    }
}
