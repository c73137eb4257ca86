//! The server's settings: raw as an operator wrote them (flags, environment, one file), then valid.
//!
//! Nothing here opens a socket or a store; what is wrong with a setting is said before anything does.

mod cli;
mod store;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use weft_controllers::settings::AddressRange;

pub(crate) use self::cli::{BackupArgs, Cli, Command, RestoreArgs, TokenCommand, TokenCreate};
pub(crate) use self::store::{StoreConfig, TlsFiles};
use crate::authz::{self, Role};

/// Settings of `serve` as they were given; unset means: ask the file, then the default.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawConfig {
    /// Settings file in YAML; its keys are the names of the flags
    #[arg(long, env = "WEFT_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Where state and keys live [default: /var/lib/weft/control]
    #[arg(long, env = "WEFT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where objects are kept: `embedded`, a file in the data directory, or `etcd://host:port[,host:port…][/name]` [default: embedded]
    #[arg(long, env = "WEFT_STORE")]
    pub(crate) store: Option<String>,
    /// PEM file of the authorities that etcd's certificate is of; TLS is spoken if it is given
    #[arg(long, env = "WEFT_STORE_CA")]
    pub(crate) store_ca: Option<PathBuf>,
    /// PEM file of the certificate that is shown to etcd
    #[arg(long, env = "WEFT_STORE_CERT")]
    pub(crate) store_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "WEFT_STORE_KEY")]
    pub(crate) store_key: Option<PathBuf>,
    /// TCP addresses of the API, repeatable [default: 0.0.0.0:6443]
    #[arg(long, env = "WEFT_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<String>,
    /// UDP address of the link that nodes dial [default: 0.0.0.0:6444]
    #[arg(long, env = "WEFT_LINK")]
    pub(crate) link: Option<String>,
    /// Addresses at which nodes and Pods reach this server, repeatable [default: the first listen address that is not 0.0.0.0]
    #[arg(long, env = "WEFT_ADVERTISE", value_delimiter = ',')]
    pub(crate) advertise: Vec<String>,
    /// Server URL in admin.kubeconfig [default: the first listen address, in place of 0.0.0.0 the first advertised one]
    #[arg(long, env = "WEFT_KUBECONFIG_SERVER")]
    pub(crate) kubeconfig_server: Option<String>,
    /// Service addresses, a range or one of each family, the first the one that Services have by default
    /// [default: 10.96.0.0/16]
    #[arg(long, env = "WEFT_SERVICE_CIDR", value_delimiter = ',')]
    pub(crate) service_cidr: Vec<String>,
    /// Pod addresses, a range or one of each family, the first the one that `status.podIP` shows [default: 10.244.0.0/16]
    #[arg(long, env = "WEFT_POD_CIDR", value_delimiter = ',')]
    pub(crate) pod_cidr: Vec<String>,
    /// Prefix length of a node's IPv4 Pod range [default: 24]
    #[arg(long, env = "WEFT_NODE_CIDR_MASK")]
    pub(crate) node_cidr_mask: Option<u8>,
    /// Prefix length of a node's IPv6 Pod range [default: 64]
    #[arg(long, env = "WEFT_NODE_CIDR_MASK_V6")]
    pub(crate) node_cidr_mask_v6: Option<u8>,
    /// First and last NodePort [default: 30000-32767]
    #[arg(long, env = "WEFT_NODE_PORTS")]
    pub(crate) node_ports: Option<String>,
    /// Addresses for LoadBalancer Services, CIDR or FIRST-LAST, repeatable; the nodes' network must reach them by ARP
    /// [default: none, such Services stay pending]
    #[arg(long, env = "WEFT_LOAD_BALANCER_POOL", value_delimiter = ',')]
    pub(crate) load_balancer_pool: Vec<String>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long, env = "WEFT_DOMAIN")]
    pub(crate) domain: Option<String>,
    /// UDP port of the overlay between nodes [default: 4789]
    #[arg(long, env = "WEFT_VXLAN_PORT")]
    pub(crate) vxlan_port: Option<u16>,
    /// Whether nodes encrypt what Pods send each other across nodes: off or wireguard [default: off]
    #[arg(long, env = "WEFT_ENCRYPTION")]
    pub(crate) encryption: Option<String>,
    /// First of the two UDP ports of the nodes' WireGuard [default: 51820]
    #[arg(long, env = "WEFT_ENCRYPTION_PORT")]
    pub(crate) encryption_port: Option<u16>,
    /// How long nodes' keys are used before others are made: 1h, 7d [default: 24h]
    #[arg(long, env = "WEFT_ENCRYPTION_KEY_LIFE")]
    pub(crate) encryption_key_life: Option<String>,
    /// How often a node reports that it lives, milliseconds [default: 5000]
    #[arg(long, env = "WEFT_HEARTBEAT_MS")]
    pub(crate) heartbeat_ms: Option<u32>,
    /// How long certificates of server and admin (renewed when a sixth is left) and of nodes (a day at least) last [default: 365d]
    #[arg(long, env = "WEFT_CERTIFICATE_LIFE")]
    pub(crate) certificate_life: Option<String>,
    /// File of roles, beside the built-in ones: who may do what, in YAML or JSON [default: none]
    #[arg(long, env = "WEFT_ROLES")]
    pub(crate) roles: Option<PathBuf>,
    /// Most connections to the API at once; one address may hold a quarter of them [default: 4096]
    #[arg(long, env = "WEFT_CONNECTIONS_MAX")]
    pub(crate) connections_max: Option<usize>,
    /// Most requests to the API that are worked on at once, watches and streams aside [default: 512]
    #[arg(long, env = "WEFT_REQUESTS_MAX")]
    pub(crate) requests_max: Option<usize>,
    /// Events kept per kind for watches that begin in the past [default: 4096]
    #[arg(long, env = "WEFT_WATCH_EVENTS_MAX")]
    pub(crate) watch_events_max: Option<usize>,
    /// How long the past is kept for watches and later pages of lists, at least; twice as long at most [default: 5m]
    #[arg(long, env = "WEFT_HISTORY")]
    pub(crate) history: Option<String>,
    /// How long the server serves on when it is told to stop, while /readyz says so already [default: 0s]
    #[arg(long, env = "WEFT_SHUTDOWN_DELAY")]
    pub(crate) shutdown_delay: Option<String>,
    /// Log lines as `text` or `json` [default: text]
    #[arg(long, env = "WEFT_LOG_FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// Valid settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) store: StoreConfig,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) link: SocketAddr,
    pub(crate) advertise: Vec<IpAddr>,
    pub(crate) kubeconfig_server: Option<String>,
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) pod_cidrs: Vec<IpNet>,
    pub(crate) node_cidr_mask: u8,
    pub(crate) node_cidr_mask_v6: u8,
    pub(crate) node_ports: std::ops::RangeInclusive<u16>,
    pub(crate) load_balancer_pool: Vec<AddressRange>,
    pub(crate) domain: String,
    pub(crate) vxlan_port: u16,
    pub(crate) encryption: bool,
    pub(crate) encryption_port: u16,
    pub(crate) key_life_seconds: u32,
    pub(crate) heartbeat_ms: u32,
    pub(crate) certificate_life: Duration,
    pub(crate) roles: Vec<Role>,
    pub(crate) connections_max: usize,
    pub(crate) requests_max: usize,
    pub(crate) watch_events_max: usize,
    pub(crate) history: Duration,
    pub(crate) shutdown_delay: Duration,
    pub(crate) log_json: bool,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the file {path} cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the file {path} is not understood: {reason}")]
    Syntax { path: PathBuf, reason: String },
    #[error("--{flag} {value:?}: {reason}")]
    Value { flag: &'static str, value: String, reason: String },
}

#[allow(clippy::needless_pass_by_value)] // so that callers hand over what they have, owned or not
fn bad(flag: &'static str, value: impl ToString, reason: impl ToString) -> ConfigError {
    ConfigError::Value { flag, value: value.to_string(), reason: reason.to_string() }
}

impl RawConfig {
    /// Settings that are unset here are taken from the file that `--config` names.
    fn with_file(self) -> Result<Self, ConfigError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::File { path: path.clone(), source })?;
        let file: RawConfig = serde_saphyr::from_str(&text)
            .map_err(|error| ConfigError::Syntax { path, reason: error.to_string() })?;
        let list = |own: Vec<String>, file: Vec<String>| if own.is_empty() { file } else { own };
        Ok(Self {
            config: self.config,
            data_dir: self.data_dir.or(file.data_dir),
            store: self.store.or(file.store),
            store_ca: self.store_ca.or(file.store_ca),
            store_cert: self.store_cert.or(file.store_cert),
            store_key: self.store_key.or(file.store_key),
            listen: list(self.listen, file.listen),
            link: self.link.or(file.link),
            advertise: list(self.advertise, file.advertise),
            kubeconfig_server: self.kubeconfig_server.or(file.kubeconfig_server),
            service_cidr: list(self.service_cidr, file.service_cidr),
            pod_cidr: list(self.pod_cidr, file.pod_cidr),
            node_cidr_mask: self.node_cidr_mask.or(file.node_cidr_mask),
            node_cidr_mask_v6: self.node_cidr_mask_v6.or(file.node_cidr_mask_v6),
            node_ports: self.node_ports.or(file.node_ports),
            load_balancer_pool: list(self.load_balancer_pool, file.load_balancer_pool),
            domain: self.domain.or(file.domain),
            vxlan_port: self.vxlan_port.or(file.vxlan_port),
            encryption: self.encryption.or(file.encryption),
            encryption_port: self.encryption_port.or(file.encryption_port),
            encryption_key_life: self.encryption_key_life.or(file.encryption_key_life),
            heartbeat_ms: self.heartbeat_ms.or(file.heartbeat_ms),
            certificate_life: self.certificate_life.or(file.certificate_life),
            roles: self.roles.or(file.roles),
            connections_max: self.connections_max.or(file.connections_max),
            requests_max: self.requests_max.or(file.requests_max),
            watch_events_max: self.watch_events_max.or(file.watch_events_max),
            history: self.history.or(file.history),
            shutdown_delay: self.shutdown_delay.or(file.shutdown_delay),
            log_format: self.log_format.or(file.log_format),
        })
    }

    /// Turns what was given into valid settings.
    ///
    /// # Errors
    /// The first setting that cannot be used, by its flag's name.
    pub(crate) fn validate(self) -> Result<Config, ConfigError> {
        let raw = self.with_file()?;
        let store = store::store(&raw)?;
        let or =
            |list: Vec<String>, default: &str| if list.is_empty() { vec![default.to_owned()] } else { list };
        let listen = or(raw.listen, "0.0.0.0:6443")
            .iter()
            .map(|a| socket_address("listen", a))
            .collect::<Result<Vec<_>, _>>()?;
        let link = socket_address("link", raw.link.as_deref().unwrap_or("0.0.0.0:6444"))?;
        let mut advertise = raw
            .advertise
            .iter()
            .map(|a| a.parse::<IpAddr>().map_err(|_| bad("advertise", a, "is not an IP address")))
            .collect::<Result<Vec<_>, _>>()?;
        if advertise.is_empty() {
            advertise.extend(listen.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified()));
        }
        let service_cidrs = ranges("service-cidr", &or(raw.service_cidr, "10.96.0.0/16"))?;
        let pod_cidrs = ranges("pod-cidr", &or(raw.pod_cidr, "10.244.0.0/16"))?;
        for service in &service_cidrs {
            if let Some(pod) = pod_cidrs.iter().find(|p| overlap(p, service)) {
                return Err(bad("pod-cidr", pod, format!("overlaps the Service range {service}")));
            }
        }
        for service in &service_cidrs {
            if !pod_cidrs.iter().any(|pod| is_v4(pod) == is_v4(service)) {
                let family = if is_v4(service) { "IPv4" } else { "IPv6" };
                return Err(bad(
                    "service-cidr",
                    service,
                    format!("no Pod would have an address behind it: --pod-cidr names no {family} range"),
                ));
            }
        }
        let cluster: Vec<IpNet> = service_cidrs.iter().chain(&pod_cidrs).copied().collect();
        let load_balancer_pool = pool(&raw.load_balancer_pool, &cluster)?;
        let node_cidr_mask = raw.node_cidr_mask.unwrap_or(24);
        let node_cidr_mask_v6 = raw.node_cidr_mask_v6.unwrap_or(64);
        check_masks(&pod_cidrs, node_cidr_mask, node_cidr_mask_v6)?;
        let domain = raw.domain.unwrap_or_else(|| "cluster.local".to_owned());
        if !is_dns_name(&domain) {
            return Err(bad("domain", domain, "is not a DNS name"));
        }
        let log_json = match raw.log_format.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(bad("log-format", other, "is neither text nor json")),
        };
        let heartbeat_ms = raw.heartbeat_ms.unwrap_or(5_000);
        if !(100..=60_000).contains(&heartbeat_ms) {
            return Err(bad("heartbeat-ms", heartbeat_ms, "must lie between 100 and 60000"));
        }
        let vxlan_port = raw.vxlan_port.unwrap_or(4789);
        let pod_cidrs_v4: Vec<IpNet> = pod_cidrs.iter().filter(|range| is_v4(range)).copied().collect();
        Ok(Config {
            data_dir: raw.data_dir.unwrap_or_else(|| PathBuf::from("/var/lib/weft/control")),
            store,
            listen,
            link,
            advertise,
            kubeconfig_server: raw.kubeconfig_server,
            service_cidrs,
            pod_cidrs,
            node_cidr_mask,
            node_cidr_mask_v6,
            node_ports: node_ports(raw.node_ports.as_deref().unwrap_or("30000-32767"))?,
            load_balancer_pool,
            domain,
            vxlan_port,
            encryption: encryption(raw.encryption.as_deref().unwrap_or("off"), &pod_cidrs_v4)?,
            encryption_port: encryption_port(raw.encryption_port.unwrap_or(51_820), vxlan_port)?,
            key_life_seconds: key_life_seconds(raw.encryption_key_life.as_deref().unwrap_or("24h"))?,
            heartbeat_ms,
            certificate_life: certificate_life(raw.certificate_life.as_deref().unwrap_or("365d"))?,
            roles: roles(raw.roles)?,
            connections_max: at_least_one("connections-max", raw.connections_max.unwrap_or(4096))?,
            requests_max: at_least_one("requests-max", raw.requests_max.unwrap_or(512))?,
            watch_events_max: at_least_one("watch-events-max", raw.watch_events_max.unwrap_or(4096))?,
            history: time_within("history", raw.history.as_deref().unwrap_or("5m"), 1, 86_400)?,
            shutdown_delay: time_within(
                "shutdown-delay",
                raw.shutdown_delay.as_deref().unwrap_or("0s"),
                0,
                3_600,
            )?,
            log_json,
        })
    }
}

impl Config {
    /// Where the CA and all keys lie.
    pub(crate) fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// The address of the `kubernetes` Service: the first of each Service range.
    pub(crate) fn api_service_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().filter_map(|c| nth_address(c, 1)).collect()
    }
}

/// The address `n` behind the first of a range, if the range is that large.
pub(crate) fn nth_address(range: &IpNet, n: u128) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_add(u32::try_from(n).ok()?)?.into()),
        IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_add(n)?.into()),
    };
    range.contains(&address).then_some(address)
}

/// Reads `90s`, `15m`, `24h`, `7d` or plain seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor_seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor_seconds).map(Duration::from_secs)
}

fn roles(path: Option<PathBuf>) -> Result<Vec<Role>, ConfigError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text =
        std::fs::read_to_string(&path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
    authz::parse(&text).map_err(|reason| ConfigError::Syntax { path, reason })
}

fn encryption(text: &str, pod_cidrs_v4: &[IpNet]) -> Result<bool, ConfigError> {
    match text {
        "off" => Ok(false),
        "wireguard" if pod_cidrs_v4.is_empty() => Err(bad(
            "encryption",
            text,
            "the tunnel's ends have addresses of IPv4: --pod-cidr names no such range",
        )),
        "wireguard" => Ok(true),
        other => Err(bad("encryption", other, "is neither off nor wireguard")),
    }
}

/// Two generations of keys have a port each.
fn encryption_port(port: u16, vxlan_port: u16) -> Result<u16, ConfigError> {
    let taken = vxlan_port == port || vxlan_port == port.wrapping_add(1);
    if !(1..u16::MAX).contains(&port) || taken {
        return Err(bad("encryption-port", port, "and the one after it must be free, the overlay's aside"));
    }
    Ok(port)
}

/// Nodes that hear of a key late need time for it.
fn key_life_seconds(text: &str) -> Result<u32, ConfigError> {
    let life = duration(text).filter(|life| life.as_secs() >= 300);
    life.and_then(|life| u32::try_from(life.as_secs()).ok())
        .ok_or_else(|| bad("encryption-key-life", text, "is not a time of the form 24h, of 5m at least"))
}

fn socket_address(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| bad(flag, text, "is not an address of the form 10.0.0.1:6443"))
}

fn ranges(flag: &'static str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    let mut ranges = Vec::with_capacity(texts.len());
    for text in texts {
        let range: IpNet =
            text.parse().map_err(|_| bad(flag, text, "is not a range of the form 10.96.0.0/16"))?;
        if range.trunc() != range {
            return Err(bad(flag, text, format!("has host bits set; {} is meant", range.trunc())));
        }
        let host_bits = range.max_prefix_len() - range.prefix_len();
        if host_bits < 4 {
            return Err(bad(flag, text, "is too small"));
        }
        if let Some(first) = ranges.iter().find(|r: &&IpNet| is_v4(r) == is_v4(&range)) {
            let family = if is_v4(&range) { "IPv4" } else { "IPv6" };
            let why = format!("is a second {family} range beside {first}; there may be one of each family");
            return Err(bad(flag, text, why));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn is_v4(range: &IpNet) -> bool {
    matches!(range, IpNet::V4(_))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn check_masks(pod_cidrs: &[IpNet], v4: u8, v6: u8) -> Result<(), ConfigError> {
    for range in pod_cidrs {
        let (flag, mask) = match range {
            IpNet::V4(_) => ("node-cidr-mask", v4),
            IpNet::V6(_) => ("node-cidr-mask-v6", v6),
        };
        if mask < range.prefix_len() || mask > range.max_prefix_len() - 2 {
            let (least, most) = (range.prefix_len(), range.max_prefix_len() - 2);
            let why =
                format!("must lie between {least} and {most}: it is the length of a node's part of {range}");
            return Err(bad(flag, mask, why));
        }
    }
    Ok(())
}

fn node_ports(text: &str) -> Result<std::ops::RangeInclusive<u16>, ConfigError> {
    let refuse = || bad("node-ports", text, "is not a range of ports like 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(refuse)?;
    let (first, last) =
        (first.parse::<u16>().map_err(|_| refuse())?, last.parse::<u16>().map_err(|_| refuse())?);
    if first == 0 || first > last {
        return Err(refuse());
    }
    Ok(first..=last)
}

/// The ranges for LoadBalancer Services: none of them inside the cluster, none twice.
fn pool(texts: &[String], cluster: &[IpNet]) -> Result<Vec<AddressRange>, ConfigError> {
    const FLAG: &str = "load-balancer-pool";
    let mut ranges: Vec<AddressRange> = Vec::with_capacity(texts.len());
    for text in texts {
        let range = AddressRange::parse(text).ok_or_else(|| {
            bad(FLAG, text, "is neither a range like 192.0.2.16/28 nor one like 192.0.2.16-192.0.2.31")
        })?;
        if let Some(net) = cluster.iter().find(|net| AddressRange::from(**net).overlaps(&range)) {
            return Err(bad(FLAG, text, format!("overlaps the cluster's own range {net}")));
        }
        if let Some(other) = ranges.iter().find(|other| other.overlaps(&range)) {
            return Err(bad(FLAG, text, format!("overlaps {other}")));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn certificate_life(text: &str) -> Result<Duration, ConfigError> {
    time_within("certificate-life", text, 5, 3_650 * 86_400)
}

/// A time of so many seconds at least and at most.
fn time_within(flag: &'static str, text: &str, least: u64, most: u64) -> Result<Duration, ConfigError> {
    duration(text).filter(|time| (least..=most).contains(&time.as_secs())).ok_or_else(|| {
        bad(flag, text, format!("is not a time like 90s, 24h or 365d between {least}s and {most}s"))
    })
}

fn at_least_one(flag: &'static str, n: usize) -> Result<usize, ConfigError> {
    if n == 0 { Err(bad(flag, n, "must be at least 1")) } else { Ok(n) }
}

/// Whether `name` is a DNS-1123 subdomain.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        let b = l.as_bytes();
        !b.is_empty()
            && b.len() <= 63
            && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
            && b[0] != b'-'
            && b[b.len() - 1] != b'-'
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag_of(raw: RawConfig) -> &'static str {
        match raw.validate() {
            Err(ConfigError::Value { flag, .. }) => flag,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_valid() {
        let config = RawConfig::default().validate().unwrap();
        assert_eq!(config.api_service_ips(), vec!["10.96.0.1".parse::<IpAddr>().unwrap()]);
        assert!(config.advertise.is_empty(), "0.0.0.0 is nothing to advertise");
    }

    #[test]
    fn each_bad_setting_is_named() {
        let raw = RawConfig::default;
        assert_eq!(flag_of(RawConfig { listen: vec!["6443".into()], ..raw() }), "listen");
        assert_eq!(flag_of(RawConfig { link: Some("nowhere".into()), ..raw() }), "link");
        assert_eq!(flag_of(RawConfig { advertise: vec!["host".into()], ..raw() }), "advertise");
        assert_eq!(flag_of(RawConfig { service_cidr: vec!["10.96.0.1/16".into()], ..raw() }), "service-cidr");
        assert_eq!(flag_of(RawConfig { pod_cidr: vec!["10.96.1.0/24".into()], ..raw() }), "pod-cidr");
        assert_eq!(flag_of(RawConfig { node_cidr_mask: Some(12), ..raw() }), "node-cidr-mask");
        assert_eq!(flag_of(RawConfig { node_ports: Some("9-3".into()), ..raw() }), "node-ports");
        for pool in [&["10.96.4.0/24"][..], &["192.0.2.1"], &["192.0.2.0/24", "192.0.2.9-192.0.2.12"]] {
            let load_balancer_pool = pool.iter().map(ToString::to_string).collect();
            assert_eq!(flag_of(RawConfig { load_balancer_pool, ..raw() }), "load-balancer-pool", "{pool:?}");
        }
        let many = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let twice = RawConfig { service_cidr: many(&["10.96.0.0/16", "10.97.0.0/16"]), ..raw() };
        assert_eq!(flag_of(twice), "service-cidr");
        let behind_nothing = RawConfig { service_cidr: many(&["10.96.0.0/16", "fd00:96::/112"]), ..raw() };
        assert_eq!(flag_of(behind_nothing), "service-cidr");
        let small = RawConfig { pod_cidr: many(&["10.244.0.0/16", "fd00:244::/112"]), ..raw() };
        assert_eq!(flag_of(small), "node-cidr-mask-v6");
        assert_eq!(flag_of(RawConfig { domain: Some("a b".into()), ..raw() }), "domain");
        assert_eq!(flag_of(RawConfig { certificate_life: Some("1s".into()), ..raw() }), "certificate-life");
        assert_eq!(flag_of(RawConfig { history: Some("0s".into()), ..raw() }), "history");
        assert_eq!(flag_of(RawConfig { shutdown_delay: Some("2h".into()), ..raw() }), "shutdown-delay");
        assert_eq!(flag_of(RawConfig { log_format: Some("xml".into()), ..raw() }), "log-format");
    }

    #[test]
    fn ranges_may_be_of_both_families_in_either_order() {
        for (services, pods) in [
            (["10.96.0.0/16", "fd00:96::/112"], ["fd00:244::/48", "10.244.0.0/16"]),
            (["fd00:96::/112", "10.96.0.0/16"], ["10.244.0.0/16", "fd00:244::/48"]),
        ] {
            let raw = RawConfig {
                service_cidr: services.map(str::to_owned).into(),
                pod_cidr: pods.map(str::to_owned).into(),
                ..RawConfig::default()
            };
            let config = raw.validate().unwrap();
            assert_eq!(config.service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), services);
            let api: Vec<String> = config.api_service_ips().iter().map(ToString::to_string).collect();
            assert_eq!(api[usize::from(services[0].contains(':'))], "10.96.0.1");
            assert_eq!(api[usize::from(!services[0].contains(':'))], "fd00:96::1");
        }
        // Pods of a second family without Services of it are fine.
        let pods = vec!["10.244.0.0/16".to_owned(), "fd00:244::/48".to_owned()];
        RawConfig { pod_cidr: pods, ..RawConfig::default() }.validate().unwrap();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.yaml");
        std::fs::write(&path, "domain: file.example\nlisten: [\"127.0.0.1:1\"]\n").unwrap();
        let raw =
            RawConfig { config: Some(path), listen: vec!["127.0.0.1:2".into()], ..RawConfig::default() };
        let config = raw.validate().unwrap();
        assert_eq!(config.domain, "file.example");
        assert_eq!(config.listen[0].port(), 2);
    }

    #[test]
    fn durations() {
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1w"), None);
    }
}
