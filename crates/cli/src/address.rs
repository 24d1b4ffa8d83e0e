//! `host:port`, checked for what can be told without asking the network.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host name or IP address with a port. IPv6 addresses stand in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub(crate) fn loopback(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it means every interface: to listen on, not to reach.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{text:?} is no HOST:PORT: {why}"));
        let Some((host, port)) = text.rsplit_once(':') else {
            return refuse("add a port, as in 127.0.0.1:4001");
        };
        let Ok(port) = port.parse::<u16>() else {
            return refuse("the port is a number from 1 to 65535");
        };
        if port == 0 {
            return refuse("port 0 would be another one at every start; name a port");
        }
        if host.is_empty() {
            return refuse("name the host too, as in 127.0.0.1:4001");
        }
        if let Err(why) = host_is_well_formed(host) {
            return refuse(why);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn host_is_well_formed(host: &str) -> Result<(), &'static str> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("what stands in brackets is no IPv6 address"),
        None if host.contains(':') => Err("an IPv6 address stands in brackets, as in [::1]:4001"),
        None if host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) =>
        {
            Ok(())
        }
        None => Err("a host has letters, digits, dots and hyphens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bad_address_is_told_what_to_do() {
        for (text, says) in [
            ("localhost", "add a port"),
            ("localhost:http", "1 to 65535"),
            ("localhost:70000", "1 to 65535"),
            ("localhost:0", "name a port"),
            (":4001", "name the host"),
            ("::1:4001", "brackets"),
            ("[::1:4001", "brackets"),
            ("[x]:4001", "no IPv6"),
            ("http://a:4001", "brackets"),
            ("a b:4001", "letters"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn reach_is_told_from_the_host() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert!(address("localhost:1").is_loopback());
        assert!(address("127.0.0.9:1").is_loopback());
        assert!(address("[::1]:1").is_loopback());
        assert!(!address("db-1.example:1").is_loopback());
        assert!(address("0.0.0.0:1").is_unspecified());
        assert!(address("[::]:1").is_unspecified());
        assert!(!address("10.0.0.1:1").is_unspecified());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "\\PC{0,24}|[a-z0-9.:\\[\\]]{1,16}:[0-9]{1,5}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
