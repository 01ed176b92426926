//! A fleet in service: a controller, and on each node a redirect server in front of Kamailio.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_sip::Method;
use pointsman_tests::daemons::{Daemons, PATIENCE, Redirecting, Settings};
use pointsman_tests::homes::Homes;
use pointsman_tests::lab::{Lab, Process, eventually};
use pointsman_tests::traffic::start_registrar;
use serde_json::Value;

use crate::phone::{Arrived, Leg, Phone};

/// The node that single calls are at.
pub(crate) const HOME: u16 = 1;
/// Twice the time after which Kamailio sends an answer again that was not acknowledged (T1).
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// For what would be there already.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(1);

/// A lab of some nodes.
pub(crate) fn lab() -> Result<Lab> {
    Lab::of(2)
}

/// Controller, redirect servers and Kamailios. The lab outlives it.
pub(crate) struct Service<'lab> {
    pub(crate) daemons: Daemons<'lab>,
    /// Where calls belong.
    pub(crate) homes: Homes,
    _controller: Process,
    _redirects: Vec<Process>,
    _servers: Vec<Process>,
}

impl<'lab> Service<'lab> {
    /// Starts everything, and waits until calls are taken.
    pub(crate) fn start(lab: &'lab Lab) -> Result<Self> {
        let settings = Settings {
            probe: true,
            redirecting: Some(Redirecting::default()),
            ..Settings::patient()
        };
        let daemons = Daemons::configure(lab, settings)?;
        let mut controller = daemons.start_controller()?;
        let (mut servers, mut redirects) = (Vec::new(), Vec::new());
        for node in lab.node_ids() {
            let (host, listen) = (lab.node(node), daemons.sip_server(node));
            let (name, service) = (format!("kamailio-{node}"), lab.vip_v4().ip().to_string());
            servers.push(start_registrar(lab, host, &name, listen, &service)?);
            redirects.push(daemons.start_redirect(node)?);
        }
        let nodes: Vec<u16> = lab.node_ids().collect();
        for node in &nodes {
            // Only an answer to the redirect server's question makes it speak.
            eventually(&format!("node {node} to speak"), PATIENCE, || {
                let status = daemons.ask_redirect(*node, "status");
                Ok(status.is_ok_and(|status| status["speaking"] == true))
            })?;
        }
        // Not before: one that speaks late may have been declared down, and is held down for a moment.
        daemons.wait_for_nodes(&mut controller, &nodes)?;
        Ok(Self {
            homes: Homes::open(&daemons.pins())?,
            daemons,
            _controller: controller,
            _redirects: redirects,
            _servers: servers,
        })
    }

    /// A Call-ID whose home is [`HOME`].
    pub(crate) fn call_id(&self, name: &str) -> Result<String> {
        let found = self.homes.call_ids(name, HOME, 1)?;
        found.into_iter().next().context("one was asked for")
    }

    /// The address of [`HOME`]'s Kamailio.
    pub(crate) fn kamailio(&self) -> SocketAddr {
        self.daemons.sip_server(HOME)
    }

    /// Registers a phone with [`HOME`]'s Kamailio, by way of the load balancer and the redirect server.
    pub(crate) fn register(&self, phone: &mut Phone) -> Result<()> {
        let vip = self.daemons.lab().vip_v4();
        let call_id = self.call_id(&format!("register-{}", phone.user()))?;
        phone.register(vip, vip, &call_id)
    }

    /// What the redirect server of a node says of itself.
    pub(crate) fn status(&self, node: u16) -> Result<Value> {
        self.daemons.ask_redirect(node, "status")
    }

    /// How often [`HOME`]'s redirect server has counted something.
    pub(crate) fn counted(&self, what: &str) -> Result<u64> {
        self.daemons.counted(HOME, what)
    }

    /// Fails unless [`HOME`] has this many calls, of which as many are in each state as said: early,
    /// confirmed, held.
    pub(crate) fn expect_calls(&self, states: [u64; 3]) -> Result<()> {
        let status = self.status(HOME)?;
        let counted =
            ["early", "confirmed", "held"].map(|state| status["redirect"][state].as_u64());
        ensure!(
            counted == states.map(Some) && status["active"] == states.iter().sum::<u64>(),
            "not {states:?} calls that are early, confirmed and held: {status}"
        );
        Ok(())
    }

    /// Fails if any node still has a call, has dropped or refused anything, or has asked Kamailio in
    /// vain how it is.
    pub(crate) fn expect_all_over(&self) -> Result<()> {
        for node in self.daemons.lab().node_ids() {
            let status = self.status(node)?;
            let redirect = &status["redirect"];
            for what in ["early", "confirmed", "held", "promised", "not_sent"] {
                ensure!(redirect[what] == 0, "node {node}: {what}: {status}");
            }
            ensure!(status["active"] == 0, "node {node} has a call: {status}");
            let counts = redirect["counts"].as_object();
            let counts = counts.with_context(|| format!("no counts: {status}"))?;
            for kind in ["drop-", "reject-"] {
                let mut bad = counts.iter().filter(|(name, _)| name.starts_with(kind));
                ensure!(bad.clone().count() > 0, "nothing is counted as {kind}");
                ensure!(
                    bad.all(|(_, count)| count == 0),
                    "node {node}: {kind}: {status}"
                );
            }
            let server = &status["sip_server"];
            ensure!(
                server["verdict"] == "alive" && server["last_status"] == 200,
                "node {node}: {server}"
            );
        }
        Ok(())
    }
}

/// A switch and a registered phone, and the fleet between them.
pub(crate) struct Ends<'lab> {
    pub(crate) service: Service<'lab>,
    pub(crate) switch: Phone,
    pub(crate) bob: Phone,
}

impl<'lab> Ends<'lab> {
    /// Starts the fleet, and registers the phone.
    pub(crate) fn start(lab: &'lab Lab) -> Result<Self> {
        let service = Service::start(lab)?;
        let mut bob = Phone::open(&lab.switch, 5090, "bob")?;
        service.register(&mut bob)?;
        let switch = Phone::open(&lab.switch, 5080, "trunk")?;
        Ok(Self {
            service,
            switch,
            bob,
        })
    }

    /// The switch calls a user of the service.
    pub(crate) fn call(&mut self, user: &str) -> Result<Leg> {
        let vip = self.service.daemons.lab().vip_v4();
        self.switch.call(user, vip, &self.service.call_id("call")?)
    }

    /// The switch calls the phone, which gets the INVITE.
    pub(crate) fn call_bob(&mut self) -> Result<(Leg, Arrived)> {
        let leg = self.call(self.bob.user())?;
        Ok((leg, self.bob.take(Method::Invite)?))
    }

    /// The switch ends a call; both know.
    pub(crate) fn hang_up(&mut self, leg: &mut Leg) -> Result<()> {
        self.switch.request(leg, Method::Bye, None)?;
        let bye = self.bob.take(Method::Bye)?;
        self.bob.answer(&bye, 200, None)?;
        self.switch.expect(Method::Bye, 200)?;
        Ok(())
    }

    /// The switch acknowledges a refusal, and with that the call is over: nobody hears of it again.
    pub(crate) fn end_refused(&mut self, leg: &Leg, refusal: &Arrived) -> Result<()> {
        self.switch.acknowledge_refusal(leg, refusal)?;
        // The switch's ACK ends at Kamailio, which stops sending the refusal.
        self.switch.expect_nothing(SILENCE)?;
        self.bob.expect_nothing(AT_ONCE)?;
        self.service.expect_all_over()
    }
}
