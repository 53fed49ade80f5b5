//! How a session's messages come through.

use crate::event::{Down, Event, Up};
use crate::world::World;

/// What is lost is sent again after so long, ms.
const RESEND_MS: u64 = 200;

impl World {
    fn through(&mut self, session: u64, up: bool) {
        let takes = self.net.takes(&mut self.dice);
        let now = self.now;
        let Some(there) = self.sessions.get_mut(&session) else {
            return;
        };
        let next = if up {
            &mut there.next.0
        } else {
            &mut there.next.1
        };
        // In order.
        let at = (now + takes).max(*next);
        *next = at;
        self.at(at, Event::Stream { session, up });
    }

    pub(crate) fn push_up(&mut self, session: u64, message: Up) {
        if let Some(there) = self.sessions.get_mut(&session) {
            there.up.push_back(message);
            self.through(session, true);
        }
    }

    pub(crate) fn push_down(&mut self, session: u64, message: Down) {
        if let Some(there) = self.sessions.get_mut(&session) {
            there.down.push_back(message);
            self.through(session, false);
        }
    }

    /// The manager ends a session.
    pub(crate) fn end_session(&mut self, session: u64, leader: Option<usize>) {
        if let Some(there) = self.sessions.get_mut(&session)
            && there.manager_open
        {
            there.manager_open = false;
            self.push_down(session, Down::End(leader));
        }
    }

    /// A message may come in.
    pub(crate) fn stream(&mut self, session: u64, up: bool) {
        let Some(there) = self.sessions.get(&session) else {
            return;
        };
        let (agent, manager) = (there.agent, there.manager);
        let agent_there =
            there.agent_open && self.hosts[agent].boot == there.agent_boot && self.runs(agent);
        let manager_there = self.hosts[manager].boot == there.manager_boot && self.runs(manager);
        let ended = !there.manager_open;
        if !agent_there || (up && !manager_there) {
            self.forget(session);
            return;
        }
        let standing = self.hosts[if up { agent } else { manager }].paused > 0;
        if !self.net.talk(agent, manager) || (self.dice.chance(self.net.loss) && !standing) {
            let at = self.now + RESEND_MS;
            // What was sent by one that is gone comes no more.
            if manager_there {
                self.at(at, Event::Stream { session, up });
            }
            return;
        }
        let Some(there) = self.sessions.get_mut(&session) else {
            return;
        };
        if up {
            if let Some(message) = there.up.pop_front()
                && !ended
            {
                self.hub_takes(manager, agent, session, message);
                self.pump(manager);
            }
        } else if let Some(message) = there.down.pop_front() {
            self.agent_takes(agent, session, message);
        }
    }

    /// Nobody is at one of its ends.
    fn forget(&mut self, session: u64) {
        let Some(there) = self.sessions.get(&session) else {
            return;
        };
        let (agent, manager) = (there.agent, there.manager);
        let manager_there = self.hosts[manager].boot == there.manager_boot && self.runs(manager);
        if manager_there && self.net.talk(agent, manager) && self.hosts[agent].powered {
            self.hub_closed(manager, agent, session);
        }
    }

    /// The other end is told that it is over.
    pub(crate) fn hung_up(&mut self, session: u64, up: bool) {
        let Some(there) = self.sessions.get(&session) else {
            return;
        };
        let (agent, manager, boot) = (there.agent, there.manager, there.manager_boot);
        if !self.net.talk(agent, manager) {
            return;
        }
        if up {
            if self.hosts[manager].boot == boot && self.runs(manager) {
                self.hub_closed(manager, agent, session);
            }
        } else {
            self.session_lost(agent, session, None);
        }
    }

    /// A daemon is gone, and its machine says so.
    pub(crate) fn hang_up_all(&mut self, host: usize) {
        let ended: Vec<(u64, bool)> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.agent_open && s.manager_open)
            .filter(|(_, s)| s.agent == host || s.manager == host)
            .map(|(number, s)| (*number, s.agent == host))
            .collect();
        for (session, up) in ended {
            let at = self.now + self.net.takes(&mut self.dice);
            self.at(at, Event::Hangup { session, up });
        }
    }
}
