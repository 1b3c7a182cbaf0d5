package client

import (
	"sync"

	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/geocast/geocast/mqtt"
)

// Session is what a client keeps of its session from one connection to the next:
// the QoS 1 and 2 messages that it has not had acknowledged, which the next Dial
// sends again, and which QoS 2 messages it has received. It is in memory, serves
// one connection at a time, and is emptied when the server has no session. The
// zero value is a new one; it must not be copied.
type Session struct {
	mu  sync.Mutex // guards the following
	out mqtt.Outbound[*flight]
	in  map[uint16]bool // QoS 2 messages received and not yet released

	five *state.State // paho's own, made by the first Dial of 5
}

// flight is a packet with an identifier on its way to the server.
type flight struct {
	publish *mqtt.Publish // nil for SUBSCRIBE and UNSUBSCRIBE
	answer  chan answer   // has room for one
}

// answer is what the server said to a flight.
type answer struct {
	reasons []mqtt.Reason
	err     error
}

// add puts a packet in the window.
func (s *Session) add(qos byte, p *mqtt.Publish) (id uint16, f *flight, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.SetCapacity(65535)
	f = &flight{p, make(chan answer, 1)}
	id, ok = s.out.Add(qos, f)
	return id, f, ok
}

// acked takes a packet out of the window and tells who waits for it.
func (s *Session) acked(id uint16, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.out.Puback(id)
	if !ok {
		f, ok = s.out.Pubcomp(id)
	}
	if ok {
		f.answer <- a
	}
}

// released notes a PUBREC.
func (s *Session) released(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Pubrec(id) // an unknown one is answered all the same [MQTT-4.3.3]
}

// first notes an inbound QoS 2 message and reports whether it is new.
func (s *Session) first(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		s.in = make(map[uint16]bool)
	}
	known := s.in[id]
	s.in[id] = true
	return !known
}

// forget notes that an inbound identifier is free again.
func (s *Session) forget(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.in, id)
}

// resume returns the packets that a new connection begins with; without a session
// at the server there are none [MQTT-3.2.2-5].
func (s *Session) resume(present bool) (packets []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !present {
		s.out, s.in = mqtt.Outbound[*flight]{}, nil
		return nil
	}
	s.out.All(func(id uint16, state mqtt.OutState, f **flight) {
		if state == mqtt.OutReleased {
			packets = mqtt.AppendAck(packets, mqtt.Ack{Type: mqtt.PUBREL, ID: id}, mqtt.V311)
			return
		}
		p := *(*f).publish
		p.ID, p.Dup = id, true
		packets = mqtt.AppendPublish(packets, &p, mqtt.V311)
	})
	return packets
}

// dropQuestions takes SUBSCRIBEs and UNSUBSCRIBEs out of the window: they are no
// part of the session.
func (s *Session) dropQuestions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []uint16
	s.out.All(func(id uint16, _ mqtt.OutState, f **flight) {
		if (*f).publish == nil {
			ids = append(ids, id)
		}
	})
	for _, id := range ids {
		s.out.Puback(id)
	}
}
