//! A fleet in the midst of a rotation, and what TLS says about it.

use super::tls::{
    CAS, CaId, CertId, Leaf, List, NEW, NEW_BY_OLD, NEW_ISSUING, NEW_SELF, OLD, OLD_AGAIN,
    OLD_ISSUING, OLD_SELF, OTHER_ISSUING, STRANGER, Universe, ZONE, ZONE_ISSUING,
};

/// What is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A root with an issuing CA under it.
    Root,
    /// A root that signs leaves itself.
    SigningRoot,
    /// An issuing CA under a root that stays.
    Issuing,
    /// The certificate of a root, not its key.
    Reissue,
}

#[derive(Clone, Debug)]
pub struct Bundle {
    pub name: String,
    pub certs: Vec<CertId>,
    /// Certificates that have left it since the proxy started.
    pub left: Vec<CertId>,
    /// Revocation lists beside it; none: Envoy asks for none.
    pub lists: Vec<List>,
}

#[derive(Clone, Debug)]
pub struct Proxy {
    pub name: String,
    pub leaf: Leaf,
    pub is_workload: bool,
    /// The first one is the listener's, the last one but strangers' the clusters'.
    pub bundles: Vec<Bundle>,
    pub outbound: usize,
    /// CAs of peers' leaves, and how many seconds ago they were last seen.
    pub seen: Vec<(CaId, i64)>,
    pub is_stale: bool,
    pub hot_restart: bool,
    /// Clients refused, outbound rejections and refused servers since the scrape before.
    pub refused: [u64; 3],
    /// The same before that.
    pub refused_before: [u64; 3],
}

/// A client that has no module.
#[derive(Clone, Debug)]
pub struct External {
    pub leaf: Leaf,
    pub server: usize,
    pub seconds_ago: i64,
}

#[derive(Clone, Debug)]
pub struct Fleet {
    pub kind: Kind,
    pub proxies: Vec<Proxy>,
    pub externals: Vec<External>,
    /// Certificates that are no longer valid.
    pub ended: Vec<CertId>,
    /// Pairs of client and server that talk all the time.
    pub busy: Vec<(usize, usize)>,
    pub has_cas: bool,
    pub has_before: bool,
    /// Certificates that sign nothing in a chain are published as well.
    pub shows_passengers: bool,
}

/// A small generator of numbers: a failing fleet is known by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize].clone()
    }
}

impl Kind {
    fn random(dice: &mut Dice) -> Self {
        dice.pick(&[
            Self::Root,
            Self::Root,
            Self::SigningRoot,
            Self::Issuing,
            Self::Reissue,
        ])
    }

    /// What is in bundles before, and after.
    fn anchors(self) -> (CertId, CertId) {
        match self {
            Self::Root | Self::SigningRoot => (OLD_SELF, NEW_SELF),
            Self::Issuing => (OLD_SELF, OLD_SELF),
            Self::Reissue => (OLD_SELF, OLD_AGAIN),
        }
    }

    fn issuer(self, is_new: bool) -> CaId {
        match (self, is_new) {
            (Self::Root | Self::Issuing | Self::Reissue, false) => OLD_ISSUING,
            (Self::Root, true) => NEW_ISSUING,
            (Self::SigningRoot, false) => OLD,
            (Self::SigningRoot, true) => NEW,
            (Self::Issuing, true) => OTHER_ISSUING,
            (Self::Reissue, true) => OLD_ISSUING,
        }
    }

    fn cas(self) -> (CaId, CaId) {
        match self {
            Self::Root | Self::SigningRoot => (OLD, NEW),
            Self::Issuing => (OLD_ISSUING, OTHER_ISSUING),
            Self::Reissue => (OLD, OLD),
        }
    }

    /// The certificates that go.
    fn going(self) -> &'static [CertId] {
        match self {
            Self::Root | Self::SigningRoot => &[OLD_SELF, OLD_AGAIN],
            Self::Issuing => &[OLD_ISSUING],
            Self::Reissue => &[OLD_SELF],
        }
    }
}

/// A valid list of each CA.
fn all_lists() -> Vec<List> {
    let list = |ca| List { ca, is_valid: true };
    (0..CAS).map(list).collect()
}

/// A leaf as a good issuer sends it: the CAs between it and the root.
fn leaf(issuer: CaId) -> Leaf {
    let chain = match issuer {
        OLD | NEW | STRANGER => vec![],
        ZONE_ISSUING => vec![ZONE_ISSUING, ZONE],
        // The certificate of a CA that is no root has the number of the CA.
        _ => vec![issuer],
    };
    Leaf { issuer, chain }
}

impl Fleet {
    /// A rotation in the right order: 0 nothing done, 1 both trusted, 2 some leaves renewed, 3 all renewed and old
    /// ones seen of late, 4 quiet, 5 the old CA is gone.
    pub fn clean(seed: u64, phase: u64) -> Self {
        let dice = &mut Dice(seed);
        let kind = Kind::random(dice);
        let (old, new) = kind.anchors();
        let number = 2 + dice.roll(3) as usize;
        let lists = match dice.one_in(4) {
            true => all_lists(),
            false => vec![],
        };
        let bundle = |name: &str, dice: &mut Dice| {
            let mut certs = match phase {
                0 => vec![old],
                1..=4 if old == new => vec![old],
                1..=4 => vec![old, new],
                _ => vec![new],
            };
            if dice.one_in(2) {
                certs.reverse();
            }
            let left = match phase {
                5 if old != new && dice.one_in(2) => vec![old],
                _ => vec![],
            };
            Bundle {
                name: name.to_owned(),
                certs,
                left,
                lists: lists.clone(),
            }
        };
        let proxies = (0..number).map(|index| {
            let is_new = match phase {
                0 | 1 => false,
                2 => index % 2 == 0,
                _ => true,
            };
            let mut bundles = vec![bundle("ROOTCA", dice)];
            if dice.one_in(3) {
                bundles.push(bundle("kubernetes://api-cacert", dice));
            }
            let outbound = bundles.len() - 1;
            if dice.one_in(3) {
                bundles.push(Bundle {
                    name: "strangers".to_owned(),
                    certs: vec![STRANGER],
                    left: vec![],
                    lists: vec![],
                });
            }
            let junk = dice.pick(&[0, 0, 3]);
            let seconds_ago = if phase <= 3 { 5 } else { 7200 };
            Proxy {
                name: format!("p{index}"),
                leaf: leaf(kind.issuer(is_new)),
                is_workload: true,
                bundles,
                outbound,
                seen: vec![(kind.issuer(false), seconds_ago), (kind.issuer(is_new), 5)],
                is_stale: false,
                hot_restart: dice.one_in(8),
                refused: [junk, 0, 0],
                refused_before: [dice.roll(3), 0, 0],
            }
        });
        let proxies = proxies.collect();
        let mut fleet = Self {
            kind,
            proxies,
            externals: vec![],
            ended: vec![],
            busy: vec![],
            // An issuing CA that has signed nothing yet is in no metric, nor is a root that nobody has any more. Which of
            // them needs a list, only certificates tell.
            has_cas: kind == Kind::Issuing || phase == 5 || !lists.is_empty() || dice.one_in(2),
            has_before: true,
            shows_passengers: dice.one_in(2),
        };
        // Istio sends every root along.
        if dice.one_in(3) {
            for proxy in &mut fleet.proxies {
                proxy.leaf.chain.extend(proxy.bundles[0].certs.clone());
            }
        }
        fleet
    }

    /// Any fleet: a rotation at some point, and up to three things that are not as they should be.
    pub fn random(seed: u64, universe: &Universe) -> Self {
        let dice = &mut Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let phase = dice.roll(6);
        let mut fleet = Self::clean(dice.roll(u64::MAX), phase);
        fleet.has_cas = dice.one_in(2);
        fleet.has_before = !dice.one_in(4);
        fleet.add_externals(dice, phase);
        for _ in 0..dice.roll(4) {
            let proxy = dice.roll(fleet.proxies.len() as u64) as usize;
            fleet.spoil(proxy, dice);
        }
        let number = fleet.proxies.len();
        let pairs = (0..number).flat_map(|client| (0..number).map(move |server| (client, server)));
        let pairs = pairs.filter(|(client, server)| client != server);
        fleet.busy = pairs.filter(|_| dice.one_in(2)).collect();
        fleet.talk(universe);
        fleet
    }

    fn add_externals(&mut self, dice: &mut Dice, phase: u64) {
        for _ in 0..dice.roll(3) {
            let issuer = match phase {
                0 | 1 => self.kind.issuer(false),
                2 | 3 => self.kind.issuer(dice.one_in(2)),
                _ => self.kind.issuer(!dice.one_in(8)),
            };
            self.externals.push(External {
                leaf: leaf(issuer),
                server: dice.roll(self.proxies.len() as u64) as usize,
                seconds_ago: dice.pick(&[5, 5, 7200]),
            });
        }
    }

    /// Makes one thing other than it should be.
    fn spoil(&mut self, index: usize, dice: &mut Dice) {
        let kind = self.kind;
        let (old, new) = kind.anchors();
        let ended = dice.pick(&[OLD_SELF, OLD_AGAIN, NEW_SELF, OLD_ISSUING, NEW_BY_OLD]);
        let proxy = &mut self.proxies[index];
        let bundle = dice.roll(proxy.bundles.len() as u64) as usize;
        let bundle = &mut proxy.bundles[bundle];
        match dice.roll(20) {
            // It lags, or is ahead.
            0 | 1 => bundle.certs = vec![old],
            2 => bundle.certs = vec![new],
            3 => bundle
                .certs
                .push(dice.pick(&[OLD_SELF, OLD_AGAIN, NEW_SELF])),
            4 => bundle
                .certs
                .insert(0, dice.pick(&[OLD_SELF, OLD_AGAIN, NEW_SELF])),
            // The issuing CA, or another in the middle, is an anchor.
            5 => bundle.certs = vec![dice.pick(&[OLD_ISSUING, NEW_ISSUING, ZONE, NEW_BY_OLD])],
            6 => bundle
                .certs
                .push(dice.pick(&[OLD_ISSUING, NEW_ISSUING, ZONE, NEW_BY_OLD])),
            7 => proxy.leaf = leaf(kind.issuer(dice.one_in(2))),
            8 => {
                proxy.leaf = leaf(dice.pick(&[OLD, NEW, ZONE_ISSUING, OTHER_ISSUING, NEW_ISSUING]))
            }
            // What is between leaf and root is not sent, or more than that is.
            9 => proxy.leaf.chain.clear(),
            10 => proxy
                .leaf
                .chain
                .push(dice.pick(&[OLD_SELF, NEW_SELF, OLD_AGAIN, STRANGER])),
            11 => proxy.leaf.chain.push(NEW_BY_OLD),
            12 => self.ended.push(ended),
            13 => proxy.is_stale = true,
            14 => proxy.hot_restart = true,
            15 => proxy.is_workload = false,
            // A list is missing, has ended, or is there without the others.
            16 => {
                bundle.lists = all_lists();
                bundle.lists.remove(dice.roll(CAS as u64) as usize);
            }
            17 => {
                bundle.lists = all_lists();
                bundle.lists[dice.roll(CAS as u64) as usize].is_valid = false;
            }
            18 => {
                let ca = dice.pick(&[OLD, NEW, OLD_ISSUING, NEW_ISSUING]);
                let is_valid = true;
                bundle.lists = vec![List { ca, is_valid }];
            }
            _ => {
                bundle.left = bundle.certs.split_off(1);
            }
        }
        for bundle in &mut self.proxies[index].bundles {
            let certs = bundle.certs.clone();
            bundle.left.retain(|left| !certs.contains(left));
            let mut met = vec![];
            bundle.certs.retain(|cert| {
                let is_new = !met.contains(cert);
                met.push(*cert);
                is_new
            });
        }
    }

    /// Who is refused is counted by both sides; who is accepted is seen.
    fn talk(&mut self, universe: &Universe) {
        for proxy in &mut self.proxies {
            proxy.seen.clear();
        }
        for (client, server) in self.busy.clone() {
            if !self.server_accepts(universe, &self.proxies[client].leaf, server, &[]) {
                self.proxies[server].refused[0] += 1;
                self.proxies[client].refused[1] += 1;
            } else if !self.client_accepts(universe, client, server, &[]) {
                self.proxies[client].refused[2] += 1;
            } else {
                let (caller, callee) = (
                    self.proxies[client].leaf.issuer,
                    self.proxies[server].leaf.issuer,
                );
                self.proxies[server].seen.push((caller, 5));
                self.proxies[client].seen.push((callee, 5));
            }
        }
        for external in self.externals.clone() {
            match self.server_accepts(universe, &external.leaf, external.server, &[]) {
                true => {
                    let seen = (external.leaf.issuer, external.seconds_ago);
                    self.proxies[external.server].seen.push(seen);
                }
                false => self.proxies[external.server].refused[0] += 1,
            }
        }
    }

    /// `--old` and `--new`.
    pub fn names(&self, universe: &Universe) -> (String, String) {
        let (old, new) = self.kind.cas();
        match self.kind {
            Kind::Reissue => (
                universe.certs[OLD_SELF].digits.clone(),
                universe.certs[OLD_AGAIN].digits.clone(),
            ),
            _ => (universe.names[old].clone(), universe.names[new].clone()),
        }
    }

    fn accepts(
        &self,
        universe: &Universe,
        bundle: &Bundle,
        leaf: &Leaf,
        without: &[CertId],
    ) -> bool {
        let certs = bundle.certs.iter().filter(|cert| !without.contains(cert));
        let certs: Vec<CertId> = certs.copied().collect();
        universe.accepts(&certs, &bundle.lists, leaf, &self.ended)
    }

    fn server_accepts(
        &self,
        universe: &Universe,
        leaf: &Leaf,
        server: usize,
        without: &[CertId],
    ) -> bool {
        self.accepts(universe, &self.proxies[server].bundles[0], leaf, without)
    }

    fn client_accepts(
        &self,
        universe: &Universe,
        client: usize,
        server: usize,
        without: &[CertId],
    ) -> bool {
        let client = &self.proxies[client];
        let bundle = &client.bundles[client.outbound];
        self.accepts(universe, bundle, &self.proxies[server].leaf, without)
    }

    /// The handshake that fails now, or will fail after the step that a gate allows.
    pub fn failure(&self, gate: u64, universe: &Universe) -> Option<String> {
        let fails_now = self.fails_now(universe);
        let busy_fails = fails_now.iter().find(|pair| self.busy.contains(pair));
        if let Some((client, server)) = busy_fails {
            return Some(format!("p{client} and p{server} fail all the time"));
        }
        let going = self.kind.going();
        match gate {
            1 => self.fails_when_new_signs(universe),
            2 => {
                let fails = fails_now.first();
                fails.map(|(client, server)| format!("p{client} cannot talk to p{server}"))
            }
            3 => self.fails_without(universe, going, false),
            4 => self.fails_without(universe, going, true),
            _ => {
                let fails = fails_now.first();
                let fails = fails.map(|(client, server)| format!("p{client} to p{server}"));
                fails.or_else(|| self.fails_without(universe, going, true))
            }
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let number = self.proxies.len();
        let pairs = (0..number).flat_map(move |client| (0..number).map(move |it| (client, it)));
        pairs.filter(|(client, server)| client != server)
    }

    /// Whether a proxy's leaf is of the old CA, the new one, or one under them.
    fn is_asked(&self, universe: &Universe, proxy: usize) -> bool {
        let (old, new) = self.kind.cas();
        let issuer = self.proxies[proxy].leaf.issuer;
        universe.is_below(issuer, old) || universe.is_below(issuer, new)
    }

    /// Pairs of which one refuses a leaf of a CA in question.
    fn fails_now(&self, universe: &Universe) -> Vec<(usize, usize)> {
        let fails = |(client, server): &(usize, usize)| {
            let (client, server) = (*client, *server);
            self.is_asked(universe, client)
                && !self.server_accepts(universe, &self.proxies[client].leaf, server, &[])
                || self.is_asked(universe, server)
                    && !self.client_accepts(universe, client, server, &[])
        };
        self.pairs().filter(fails).collect()
    }

    /// A bundle that accepts what the old CA signs must accept what the new CA will sign.
    fn fails_when_new_signs(&self, universe: &Universe) -> Option<String> {
        let (before, after) = (leaf(self.kind.issuer(false)), leaf(self.kind.issuer(true)));
        let going: &[CertId] = match self.kind {
            Kind::Reissue => self.kind.going(),
            _ => &[],
        };
        self.proxies.iter().find_map(|proxy| {
            let used = [&proxy.bundles[0], &proxy.bundles[proxy.outbound]];
            let refuses = |bundle: &&&Bundle| {
                self.accepts(universe, bundle, &before, &[])
                    && !self.accepts(universe, bundle, &after, going)
            };
            let refusing = used.iter().find(refuses)?;
            Some(format!("{} will refuse in {}", proxy.name, refusing.name))
        })
    }

    /// What works now must work when the old CA is gone.
    fn fails_without(
        &self,
        universe: &Universe,
        going: &[CertId],
        with_peers: bool,
    ) -> Option<String> {
        let works = |(client, server): (usize, usize), without: &[CertId]| {
            self.server_accepts(universe, &self.proxies[client].leaf, server, without)
                && self.client_accepts(universe, client, server, without)
        };
        let pair = self
            .pairs()
            .find(|pair| works(*pair, &[]) && !works(*pair, going));
        let pair = pair.map(|(client, server)| format!("p{client} to p{server} needs the old CA"));
        let needs_it = |external: &&External| {
            let accepts =
                |without| self.server_accepts(universe, &external.leaf, external.server, without);
            external.seconds_ago < 3600 && accepts(&[]) && !accepts(going)
        };
        let external = self.externals.iter().filter(|_| with_peers).find(needs_it);
        pair.or_else(|| {
            Some(format!(
                "a client of p{} needs the old CA",
                external?.server
            ))
        })
    }
}
