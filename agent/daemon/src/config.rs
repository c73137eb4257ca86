//! Configuration twice: as it was typed, and as it is valid.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use weft_dataplane::RoutingMode;

/// As typed. Flags are stronger than the environment, and that than the file of `--config`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Raw {
    /// Control plane's link, HOST:PORT [the file or the environment may say it instead]
    #[arg(long, env = "WEFT_CONTROL", value_name = "HOST:PORT")]
    control: Option<String>,
    /// Join token, needed once; `weft-control token create` prints one
    #[arg(long, env = "WEFT_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the join token
    #[arg(long, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of this node, a DNS-1123 subdomain [default: the host name]
    #[arg(long, env = "WEFT_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Address of this node that the others reach, or one of each family, repeatable
    /// [default: those of the device towards the control plane]
    #[arg(long, env = "WEFT_NODE_IP", value_name = "IP", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    node_ip: Vec<IpAddr>,
    /// What must outlive a reboot [default: /var/lib/weft]
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Sockets and namespaces [default: /run/weft]
    #[arg(long, env = "WEFT_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Pins of maps and programs [default: /sys/fs/bpf/weft]
    #[arg(long, env = "WEFT_BPFFS", value_name = "DIR")]
    bpffs: Option<PathBuf>,
    /// Cgroup whose processes are balanced at connect, below each hierarchy's root [default: the root]
    #[arg(long, env = "WEFT_CGROUP_ROOT", value_name = "PATH")]
    cgroup_root: Option<String>,
    /// Device towards the other nodes [default: the one of the default route]
    #[arg(long, env = "WEFT_UPLINK", value_name = "DEVICE")]
    uplink: Option<String>,
    /// How packet programs come to devices: by tcx links where the kernel has them, or as clsact classifiers on any [default: auto]
    #[arg(long, env = "WEFT_PACKET_HOOKS", value_name = "HOW")]
    packet_hooks: Option<PacketHooks>,
    /// Packets between the Pods of two nodes: `tunnel`, or `native`, which is as they are where the nodes share the uplink's
    /// network [default: tunnel]
    #[arg(long, env = "WEFT_ROUTING_MODE", value_name = "MODE", value_parser = ["tunnel", "native"])]
    routing_mode: Option<String>,
    /// Whether every packet of the tunnel goes by its device, where the host's own IPsec and firewall rules for UDP 4789 meet it;
    /// otherwise most pass it by [default: false]
    #[arg(long, env = "WEFT_TUNNEL_BY_DEVICE", value_name = "BOOL")]
    tunnel_by_device: Option<bool>,
    /// The eBPF object [default: weft-bpf beside this program, then /usr/lib/weft/weft-bpf]
    #[arg(long, env = "WEFT_EBPF_OBJECT", value_name = "FILE")]
    ebpf_object: Option<PathBuf>,
    /// agentctl's socket [default: RUN_DIR/agent.sock]
    #[arg(long, env = "WEFT_AGENT_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Balance at connect; `false` leaves it to the per-packet path [default: true]
    #[arg(long, env = "WEFT_SOCKET_LB", value_name = "BOOL")]
    socket_lb: Option<bool>,
    /// How what comes from outside reaches another node's Pod: `snat`, by this node's address and back through it, or `dsr`,
    /// by the client's address and answered from that node [default: snat]
    #[arg(long, env = "WEFT_LOAD_BALANCER_MODE", value_name = "MODE")]
    load_balancer_mode: Option<LoadBalancerMode>,
    /// Whether the uplink's driver carries established flows from outside to other nodes by itself: `off`, `auto` (where it
    /// can, but on no veth) or `on` (where it can) [default: off]
    #[arg(long, env = "WEFT_XDP", value_name = "WHEN")]
    xdp: Option<XdpMode>,
    /// The containerd shim [default: containerd-shim-runc-v2]
    #[arg(long, env = "WEFT_SHIM", value_name = "PROGRAM")]
    shim: Option<PathBuf>,
    /// The OCI runtime [default: runc]
    #[arg(long, env = "WEFT_OCI_RUNTIME", value_name = "PROGRAM")]
    oci_runtime: Option<PathBuf>,
    /// Registries that are spoken to over plain HTTP, HOST:PORT, repeatable; loopback ones always are
    #[arg(long, env = "WEFT_INSECURE_REGISTRY", value_name = "HOST:PORT", value_delimiter = ',')]
    insecure_registry: Vec<String>,
    /// Name servers for what is not the cluster's [default: /etc/resolv.conf]
    #[arg(long, env = "WEFT_RESOLV_CONF", value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// Flows kept for `agentctl trace` [default: 16384]
    #[arg(long, env = "WEFT_FLOWS_MAX", value_name = "N")]
    flows_max: Option<usize>,
    /// Pods this node takes [default: 110]
    #[arg(long, env = "WEFT_PODS_MAX", value_name = "N")]
    pods_max: Option<u32>,
    /// Disk use above which images that no Pod uses are removed, percent [default: 85]
    #[arg(long, env = "WEFT_IMAGE_GC_HIGH", value_name = "PERCENT")]
    image_gc_high: Option<u8>,
    /// Disk use at which that ends, percent [default: 80]
    #[arg(long, env = "WEFT_IMAGE_GC_LOW", value_name = "PERCENT")]
    image_gc_low: Option<u8>,
    /// Labels of the Node, KEY=VALUE, repeatable
    #[arg(long, env = "WEFT_NODE_LABELS", value_name = "KEY=VALUE", value_delimiter = ',')]
    node_label: Vec<String>,
    /// Log lines as text or json [default: text]
    #[arg(long, env = "WEFT_LOG_FORMAT", value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// Settings of this list, as JSON
    #[arg(long, env = "WEFT_AGENT_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// As typed: how packet programs come to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PacketHooks {
    /// By tcx links where the kernel has them, else as clsact classifiers
    Auto,
    /// As clsact classifiers
    Clsact,
}

/// Whether the uplink's driver carries packets by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum XdpMode {
    /// Never.
    #[default]
    Off,
    /// Where it can, but on no veth.
    Auto,
    /// Where it can.
    On,
}

/// Who answers an outside client whose backend is on another node than the one it asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LoadBalancerMode {
    /// The node that was asked: it translates source and destination.
    #[default]
    Snat,
    /// The backend's node (direct server return).
    Dsr,
}

/// As valid.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) control: String,
    pub(crate) token: Option<String>,
    pub(crate) node_name: String,
    /// At most one of each family; none: they are looked for.
    pub(crate) node_ips: Vec<IpAddr>,
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) bpffs: PathBuf,
    /// Relative to each hierarchy's root, without a leading slash; empty for the root itself.
    pub(crate) cgroup_root: PathBuf,
    pub(crate) uplink: Option<String>,
    pub(crate) packet_hooks: weft_dataplane::PacketHooks,
    pub(crate) routing_mode: RoutingMode,
    pub(crate) ebpf_object: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) socket_lb: bool,
    pub(crate) load_balancer_mode: LoadBalancerMode,
    pub(crate) xdp: XdpMode,
    pub(crate) tunnel_by_device: bool,
    pub(crate) shim: PathBuf,
    pub(crate) oci_runtime: PathBuf,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) flows_max: usize,
    pub(crate) pods_max: u32,
    /// Low and high mark of disk use.
    pub(crate) image_gc_percent: (u8, u8),
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) log_json: bool,
}

/// Why a configuration is not valid. The program ends with 64 before anything is bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("--control HOST:PORT is missing: the address of the control plane's link, port 6444 by default")]
    NoControl,
    #[error("control {0:?} is not HOST:PORT")]
    Control(String),
    #[error("{0}")]
    NodeName(String),
    #[error("{option} {path} cannot be read")]
    Read {
        option: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("configuration file {path} is not understood")]
    File {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cgroup root {0:?} must be a path without ..")]
    CgroupRoot(String),
    #[error("--node-ip {second} is of the same family as {first}: a node has one address of each")]
    NodeIps { first: IpAddr, second: IpAddr },
    #[error("--node-ip {0} is no address that other nodes can reach")]
    NodeIp(IpAddr),
    #[error("node label {0:?} is not KEY=VALUE")]
    Label(String),
    #[error(
        "--image-gc-low {low} and --image-gc-high {high} must be percents, the first not above the second"
    )]
    ImageGc { low: u8, high: u8 },
    #[error("--routing-mode {0:?} is neither tunnel nor native")]
    RoutingMode(String),
    #[error("{option} must be at least 1")]
    Zero { option: &'static str },
    #[error("no eBPF object at {}: `cargo xtask build-ebpf` makes one, --ebpf-object names it", .tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoObject { tried: Vec<PathBuf> },
}

/// What the machine says where nothing was typed; an argument, so that validation is pure but for the named files.
pub(crate) struct Machine {
    pub(crate) host_name: String,
    pub(crate) program: PathBuf,
}

impl Raw {
    /// Fills from the file what flags and environment left open, and checks everything.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub(crate) fn validate(self, machine: &Machine) -> Result<Config, ConfigError> {
        let raw = self.with_file()?;
        let control = raw.control.ok_or(ConfigError::NoControl)?;
        check_control(&control)?;
        let token = match (raw.token, raw.token_file) {
            (Some(token), _) => Some(token.trim().to_owned()),
            (None, Some(path)) => Some(read("token file", &path)?.trim().to_owned()),
            (None, None) => None,
        };
        let node_name = raw.node_name.unwrap_or_else(|| machine.host_name.to_lowercase());
        weft_link::join::check_node_name(&node_name)
            .map_err(|error| ConfigError::NodeName(error.to_string()))?;
        check_node_ips(&raw.node_ip)?;
        let cgroup_root = raw.cgroup_root.unwrap_or_default();
        if Path::new(&cgroup_root).components().any(|c| matches!(c, std::path::Component::ParentDir)) {
            return Err(ConfigError::CgroupRoot(cgroup_root));
        }
        let run_dir = raw.run_dir.unwrap_or_else(|| "/run/weft".into());
        if raw.flows_max == Some(0) {
            return Err(ConfigError::Zero { option: "--flows-max" });
        }
        if raw.pods_max == Some(0) {
            return Err(ConfigError::Zero { option: "--pods-max" });
        }
        let routing_mode = match raw.routing_mode.as_deref() {
            None | Some("tunnel") => RoutingMode::Tunnel,
            Some("native") => RoutingMode::Native,
            Some(other) => return Err(ConfigError::RoutingMode(other.to_owned())),
        };
        let (low, high) = (raw.image_gc_low.unwrap_or(80), raw.image_gc_high.unwrap_or(85));
        if low > high || high > 100 {
            return Err(ConfigError::ImageGc { low, high });
        }
        let labels = raw
            .node_label
            .iter()
            .map(|text| match text.split_once('=') {
                Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
                _ => Err(ConfigError::Label(text.clone())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Config {
            control,
            token,
            node_name,
            node_ips: raw.node_ip,
            data_dir: raw.data_dir.unwrap_or_else(|| "/var/lib/weft".into()),
            socket: raw.socket.unwrap_or_else(|| run_dir.join("agent.sock")),
            run_dir,
            bpffs: raw.bpffs.unwrap_or_else(|| "/sys/fs/bpf/weft".into()),
            cgroup_root: cgroup_root.trim_matches('/').into(),
            uplink: raw.uplink,
            packet_hooks: match raw.packet_hooks {
                None | Some(PacketHooks::Auto) => weft_dataplane::PacketHooks::Probe,
                Some(PacketHooks::Clsact) => weft_dataplane::PacketHooks::Clsact,
            },
            routing_mode,
            ebpf_object: object(raw.ebpf_object, &machine.program)?,
            socket_lb: raw.socket_lb.unwrap_or(true),
            load_balancer_mode: raw.load_balancer_mode.unwrap_or_default(),
            xdp: raw.xdp.unwrap_or_default(),
            tunnel_by_device: raw.tunnel_by_device.unwrap_or(false),
            shim: raw.shim.unwrap_or_else(|| "containerd-shim-runc-v2".into()),
            oci_runtime: raw.oci_runtime.unwrap_or_else(|| "runc".into()),
            insecure_registries: raw.insecure_registry,
            resolv_conf: raw.resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".into()),
            flows_max: raw.flows_max.unwrap_or(16_384),
            pods_max: raw.pods_max.unwrap_or(110),
            image_gc_percent: (low, high),
            labels,
            log_json: raw.log_format.as_deref() == Some("json"),
        })
    }

    fn with_file(self) -> Result<Self, ConfigError> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = read("configuration file", &path)?;
        let file: Self = serde_json::from_str(&text).map_err(|source| ConfigError::File { path, source })?;
        fn or<T>(a: Vec<T>, b: Vec<T>) -> Vec<T> {
            if a.is_empty() { b } else { a }
        }
        Ok(Self {
            control: self.control.or(file.control),
            token: self.token.or(file.token),
            token_file: self.token_file.or(file.token_file),
            node_name: self.node_name.or(file.node_name),
            node_ip: or(self.node_ip, file.node_ip),
            data_dir: self.data_dir.or(file.data_dir),
            run_dir: self.run_dir.or(file.run_dir),
            bpffs: self.bpffs.or(file.bpffs),
            cgroup_root: self.cgroup_root.or(file.cgroup_root),
            uplink: self.uplink.or(file.uplink),
            packet_hooks: self.packet_hooks.or(file.packet_hooks),
            routing_mode: self.routing_mode.or(file.routing_mode),
            ebpf_object: self.ebpf_object.or(file.ebpf_object),
            socket: self.socket.or(file.socket),
            socket_lb: self.socket_lb.or(file.socket_lb),
            load_balancer_mode: self.load_balancer_mode.or(file.load_balancer_mode),
            xdp: self.xdp.or(file.xdp),
            tunnel_by_device: self.tunnel_by_device.or(file.tunnel_by_device),
            shim: self.shim.or(file.shim),
            oci_runtime: self.oci_runtime.or(file.oci_runtime),
            insecure_registry: or(self.insecure_registry, file.insecure_registry),
            resolv_conf: self.resolv_conf.or(file.resolv_conf),
            flows_max: self.flows_max.or(file.flows_max),
            pods_max: self.pods_max.or(file.pods_max),
            image_gc_high: self.image_gc_high.or(file.image_gc_high),
            image_gc_low: self.image_gc_low.or(file.image_gc_low),
            node_label: or(self.node_label, file.node_label),
            log_format: self.log_format.or(file.log_format),
            config: self.config,
        })
    }
}

fn read(option: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        option,
        path: path.to_owned(),
        source,
    })
}

fn check_control(text: &str) -> Result<(), ConfigError> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| ConfigError::Control(text.to_owned()))?;
    let port_fits = port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || host.contains(char::is_whitespace) || !port_fits {
        return Err(ConfigError::Control(text.to_owned()));
    }
    Ok(())
}

fn check_node_ips(ips: &[IpAddr]) -> Result<(), ConfigError> {
    for (i, ip) in ips.iter().enumerate() {
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
            return Err(ConfigError::NodeIp(*ip));
        }
        if let Some(first) = ips[..i].iter().find(|first| first.is_ipv4() == ip.is_ipv4()) {
            return Err(ConfigError::NodeIps { first: *first, second: *ip });
        }
    }
    Ok(())
}

/// A list in the settings file, or, as long as there was but one, the value alone.
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(IpAddr),
        Many(Vec<IpAddr>),
    }
    Ok(match Option::<Given>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Given::One(ip)) => vec![ip],
        Some(Given::Many(ips)) => ips,
    })
}

fn object(typed: Option<PathBuf>, program: &Path) -> Result<PathBuf, ConfigError> {
    let tried = match typed {
        Some(path) => vec![path],
        None => vec![program.with_file_name("weft-bpf"), "/usr/lib/weft/weft-bpf".into()],
    };
    tried.iter().find(|path| path.is_file()).cloned().ok_or(ConfigError::NoObject { tried })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { host_name: "Host-1".into(), program: "/nowhere/weft-agent".into() }
    }

    fn raw() -> Raw {
        Raw { control: Some("127.0.0.1:6444".into()), ebpf_object: Some("/bin/sh".into()), ..Raw::default() }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = raw().validate(&machine()).unwrap();
        assert_eq!(config.node_name, "host-1");
        assert_eq!(config.socket, Path::new("/run/weft/agent.sock"));
        assert_eq!(config.data_dir, Path::new("/var/lib/weft"));
        assert!(config.socket_lb && config.token.is_none());
        assert_eq!(config.routing_mode, RoutingMode::Tunnel);
        assert_eq!(config.load_balancer_mode, LoadBalancerMode::Snat);
    }

    #[test]
    fn the_mode_of_load_balancing_is_read_from_flags_and_from_the_file() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            raw: Raw,
        }
        let dsr = Command::try_parse_from(["agent", "--load-balancer-mode", "dsr"]).unwrap().raw;
        assert_eq!(dsr.load_balancer_mode, Some(LoadBalancerMode::Dsr));
        let dsr = Raw { load_balancer_mode: dsr.load_balancer_mode, ..raw() };
        assert_eq!(dsr.validate(&machine()).unwrap().load_balancer_mode, LoadBalancerMode::Dsr);
        assert!(Command::try_parse_from(["agent", "--load-balancer-mode", "both"]).is_err());
        let file: Raw = serde_json::from_str(r#"{ "load-balancer-mode": "dsr" }"#).unwrap();
        assert_eq!(file.load_balancer_mode, Some(LoadBalancerMode::Dsr));
        let auto = Command::try_parse_from(["agent", "--xdp", "auto"]).unwrap().raw;
        assert_eq!((auto.xdp, raw().validate(&machine()).unwrap().xdp), (Some(XdpMode::Auto), XdpMode::Off));
        let file: Raw = serde_json::from_str(r#"{ "xdp": "on" }"#).unwrap();
        assert_eq!(file.xdp, Some(XdpMode::On));
    }

    #[test]
    fn the_tunnel_goes_by_its_device_where_that_is_set() {
        assert!(!raw().validate(&machine()).unwrap().tunnel_by_device);
        let file: Raw = serde_json::from_str(r#"{ "tunnel-by-device": true }"#).unwrap();
        let set = Raw { tunnel_by_device: file.tunnel_by_device, ..raw() };
        assert!(set.validate(&machine()).unwrap().tunnel_by_device);
    }

    #[test]
    fn bad_settings_name_themselves() {
        let refuse = |raw: Raw| raw.validate(&machine()).unwrap_err().to_string();
        assert!(refuse(Raw { control: None, ..raw() }).contains("--control"));
        assert!(refuse(Raw { control: Some("no-port".into()), ..raw() }).contains("not HOST:PORT"));
        assert!(refuse(Raw { control: Some("host:0".into()), ..raw() }).contains("not HOST:PORT"));
        assert!(refuse(Raw { node_name: Some("my node".into()), ..raw() }).contains("my node"));
        assert!(refuse(Raw { ebpf_object: Some("/nowhere/x".into()), ..raw() }).contains("build-ebpf"));
        assert!(refuse(Raw { node_label: vec!["novalue".into()], ..raw() }).contains("KEY=VALUE"));
        assert!(refuse(Raw { cgroup_root: Some("../x".into()), ..raw() }).contains("without .."));
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let two = refuse(Raw { node_ip: ips(&["192.0.2.1", "fd00::1", "192.0.2.2"]), ..raw() });
        assert_eq!(
            two,
            "--node-ip 192.0.2.2 is of the same family as 192.0.2.1: a node has one address of each"
        );
        assert!(refuse(Raw { node_ip: ips(&["::"]), ..raw() }).contains("--node-ip ::"));
        let routed = refuse(Raw { routing_mode: Some("direct".into()), ..raw() });
        assert_eq!(routed, "--routing-mode \"direct\" is neither tunnel nor native");
        assert!(refuse(Raw { flows_max: Some(0), ..raw() }).contains("--flows-max"));
        assert!(refuse(Raw { image_gc_low: Some(90), ..raw() }).contains("--image-gc-low 90"));
        assert!(refuse(Raw { image_gc_high: Some(101), ..raw() }).contains("--image-gc-high 101"));
    }

    #[test]
    fn hooks_are_chosen_by_a_probe_unless_told() {
        use weft_dataplane::PacketHooks::{Clsact, Probe};
        let hooks = |raw: Raw| raw.validate(&machine()).unwrap().packet_hooks;
        assert_eq!(hooks(raw()), Probe);
        assert_eq!(hooks(Raw { packet_hooks: Some(PacketHooks::Auto), ..raw() }), Probe);
        assert_eq!(hooks(Raw { packet_hooks: Some(PacketHooks::Clsact), ..raw() }), Clsact);
        let file = |text: &str| serde_json::from_str::<Raw>(text).map(|raw| raw.packet_hooks);
        assert_eq!(file(r#"{ "packet-hooks": "clsact" }"#).unwrap(), Some(PacketHooks::Clsact));
        assert!(file(r#"{ "packet-hooks": "iptables" }"#).is_err());
    }

    #[test]
    fn the_file_names_one_address_or_a_list() {
        for (text, wanted) in [
            (r#"{ "node-ip": "192.0.2.1" }"#, vec!["192.0.2.1"]),
            (r#"{ "node-ip": ["fd00::1", "192.0.2.1"] }"#, vec!["fd00::1", "192.0.2.1"]),
            (r#"{ "node-ip": null }"#, vec![]),
            ("{}", vec![]),
        ] {
            let read: Raw = serde_json::from_str(text).unwrap();
            let ips: Vec<String> = read.node_ip.iter().map(ToString::to_string).collect();
            assert_eq!(ips, wanted);
        }
    }
}
