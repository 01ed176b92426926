//! A scenario of SIPp's: a switch that follows 302, written out for as many redirects as there may be.
//!
//! ```text
//!  INVITE ─┬─ 200, ACK ─────────────────────────────────────┬─ re-INVITE, 200, ACK, pause, BYE, 200
//!          ├─ 302, ACK, the INVITE again to its Contact ─ … ┘
//!          └─ 503, ACK: refused, which is an end like others
//! ```
//! The redirected INVITE keeps Call-ID and From tag and counts its CSeq up (RFC 3261 §8.1.3.4). Once the
//! call stands, everything goes to the first address again, as from a switch that sends all it has to
//! the load balancer, whatever the Route says: it must find the call's node.

use std::fmt::Write as _;

/// Redirects that a call may take.
pub const MAX_REDIRECTS: usize = 3;

/// The scenario. SIPp counts each command but the labels, and [`Scenario::branch`] counts with it.
pub(super) fn scenario() -> String {
    let mut scenario = Scenario::default();
    for attempt in 0..=MAX_REDIRECTS {
        scenario.attempt(attempt);
    }
    scenario.talk();
    format!(
        "<?xml version=\"1.0\" encoding=\"us-ascii\"?>\n<scenario name=\"following switch\">\n{}\
         <Reference variables=\"user\"/>\n</scenario>\n",
        scenario.text
    )
}

#[derive(Default)]
struct Scenario {
    text: String,
    commands: usize,
}

impl Scenario {
    fn command(&mut self, xml: &str) -> usize {
        self.text.push_str(xml);
        self.commands += 1;
        self.commands - 1
    }

    fn label(&mut self, id: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "<label id=\"{id}\"/>");
    }

    /// The branch of the request that was command `of`, to be written in the next command.
    fn branch(&self, of: usize) -> String {
        format!("[branch-{}]", self.commands - of)
    }

    fn attempt(&mut self, attempt: usize) {
        let uri = if attempt == 0 {
            "sip:[service]@[remote_ip]:[remote_port]"
        } else {
            "[$uri]"
        };
        let cseq = attempt + 1;
        let invite = self.command(&request(
            "INVITE",
            uri,
            "[branch]",
            "",
            cseq,
            "",
            " retrans=\"500\"",
        ));
        for provisional in [100, 180] {
            self.command(&format!(
                "<recv response=\"{provisional}\" optional=\"true\"/>\n"
            ));
        }
        if attempt < MAX_REDIRECTS {
            self.command(&format!(
                "<recv response=\"302\" optional=\"true\" next=\"redirected{attempt}\"><action>\
                 <ereg regexp=\"sip:([^@]*@)?([0-9.]+):([0-9]+)[^>]*\" search_in=\"hdr\" \
                 header=\"Contact:\" check_it=\"true\" assign_to=\"uri,user,host,port\"/>\
                 </action></recv>\n"
            ));
        }
        self.command(&format!(
            "<recv response=\"503\" optional=\"true\" next=\"refused{attempt}\"/>\n"
        ));
        self.command("<recv response=\"200\" rrs=\"true\"/>\n");
        self.command(&request(
            "ACK",
            "[next_url]",
            "[branch]",
            "[peer_tag_param]",
            cseq,
            "[routes]\n",
            "",
        ));
        self.command("<nop next=\"talk\"/>\n");

        self.label(&format!("refused{attempt}"));
        let branch = self.branch(invite);
        self.command(&request(
            "ACK",
            uri,
            &branch,
            "[peer_tag_param]",
            cseq,
            "",
            " next=\"end\"",
        ));
        if attempt < MAX_REDIRECTS {
            self.label(&format!("redirected{attempt}"));
            let branch = self.branch(invite);
            self.command(&request(
                "ACK",
                uri,
                &branch,
                "[peer_tag_param]",
                cseq,
                "",
                "",
            ));
            self.command(
                "<nop><action><setdest host=\"[$host]\" port=\"[$port]\" protocol=\"UDP\"/>\
                 </action></nop>\n",
            );
        }
    }

    fn talk(&mut self) {
        let cseq = MAX_REDIRECTS + 2;
        let dialog = |method, cseq, attributes| {
            request(
                method,
                "[next_url]",
                "[branch]",
                "[peer_tag_param]",
                cseq,
                "[routes]\n",
                attributes,
            )
        };
        self.label("talk");
        self.command(
            "<nop><action><setdest host=\"[remote_ip]\" port=\"[remote_port]\" protocol=\"UDP\"/>\
             </action></nop>\n",
        );
        self.command(&dialog("INVITE", cseq, " retrans=\"500\""));
        self.command("<recv response=\"100\" optional=\"true\"/>\n");
        self.command("<recv response=\"200\"/>\n");
        self.command(&dialog("ACK", cseq, ""));
        self.command("<pause/>\n");
        self.command(&dialog("BYE", cseq + 1, " retrans=\"500\""));
        self.command("<recv response=\"200\"/>\n");
        self.label("end");
        self.command("<nop/>\n");
    }
}

fn request(
    method: &str,
    uri: &str,
    branch: &str,
    to_tag: &str,
    cseq: usize,
    routes: &str,
    attributes: &str,
) -> String {
    let (body_headers, body) = if method == "INVITE" {
        (
            "Content-Type: application/sdp\nContent-Length: [len]\n",
            "v=0\no=switch 1 1 IN IP[local_ip_type] [local_ip]\ns=-\n\
             c=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [media_port] RTP/AVP 8\n",
        )
    } else {
        ("Content-Length: 0\n", "")
    };
    format!(
        "<send{attributes}>\n<![CDATA[\n\n{method} {uri} SIP/2.0\n\
         Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}\n\
         From: \"Switch\" <sip:trunk@[local_ip]:[local_port]>;tag=[pid]s[call_number]\n\
         To: <sip:[service]@[remote_ip]:[remote_port]>{to_tag}\n\
         Call-ID: [call_id]\nCSeq: {cseq} {method}\n\
         Contact: <sip:trunk@[local_ip]:[local_port]>\n{routes}Max-Forwards: 70\n\
         {body_headers}\n{body}\n]]>\n</send>\n"
    )
}
