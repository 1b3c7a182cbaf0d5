package mqtt

// OutState is how far an outbound message is.
type OutState byte

// The states: sent and waiting for PUBACK or PUBREC, or released and waiting for
// PUBCOMP.
const (
	OutSent OutState = iota + 1
	OutReleased
)

// Outbound is a session's outbound window: what was sent and is not yet
// acknowledged, by packet identifier, in the order of sending. It is a plain
// value for one goroutine. The zero value holds nothing and has no room until
// SetCapacity.
type Outbound[T any] struct {
	flights []outFlight[T]
	last    uint16
	most    uint16
}

type outFlight[T any] struct {
	id    uint16
	qos   byte
	state OutState
	item  T
}

// SetCapacity sets how many messages may be unacknowledged: the lower of the
// client's Receive Maximum and the server's own bound.
func (w *Outbound[T]) SetCapacity(n int) { w.most = uint16(min(n, 65535)) }

// Free is how many more messages may be sent [MQTT-3.3.4-9]. A QoS 2 message
// counts until PUBCOMP [MQTT-4.9.0-2].
func (w *Outbound[T]) Free() int { return max(int(w.most)-len(w.flights), 0) }

// Len is how many messages are in the window.
func (w *Outbound[T]) Len() int { return len(w.flights) }

// Add puts an item in the window under an identifier that is not in use. It
// fails if there is no room.
func (w *Outbound[T]) Add(qos byte, item T) (id uint16, ok bool) {
	if w.Free() == 0 {
		return 0, false
	}
	for {
		w.last++
		if w.last != 0 && w.find(w.last) < 0 {
			break
		}
	}
	w.flights = append(w.flights, outFlight[T]{w.last, qos, OutSent, item})
	return w.last, true
}

// AddWithID puts an item back under the identifier that it had on an earlier
// connection, whatever the capacity. It fails if the identifier is 0 or in use.
func (w *Outbound[T]) AddWithID(id uint16, qos byte, released bool, item T) bool {
	if id == 0 || w.find(id) >= 0 {
		return false
	}
	state := OutSent
	if released {
		state = OutReleased
	}
	w.flights = append(w.flights, outFlight[T]{id, qos, state, item})
	w.last = max(w.last, id)
	return true
}

func (w *Outbound[T]) find(id uint16) int {
	for i := range w.flights {
		if w.flights[i].id == id {
			return i
		}
	}
	return -1
}

func (w *Outbound[T]) remove(i int) {
	if i == 0 { // the usual order; the rest need not move
		var zero outFlight[T]
		w.flights[0] = zero
		w.flights = w.flights[1:]
	} else {
		w.flights = append(w.flights[:i], w.flights[i+1:]...)
	}
	if len(w.flights) == 0 {
		w.flights = nil
	}
}

// Puback ends a QoS 1 exchange and returns its item.
func (w *Outbound[T]) Puback(id uint16) (item T, ok bool) {
	i := w.find(id)
	if i < 0 || w.flights[i].qos != 1 {
		return item, false
	}
	item = w.flights[i].item
	w.remove(i)
	return item, true
}

// Pubrec notes that the receiver has a QoS 2 message; first is false if it said
// so before.
func (w *Outbound[T]) Pubrec(id uint16) (item T, first, ok bool) {
	i := w.find(id)
	if i < 0 || w.flights[i].qos != 2 {
		return item, false, false
	}
	f := &w.flights[i]
	first = f.state == OutSent
	f.state = OutReleased
	return f.item, first, true
}

// Pubcomp ends a QoS 2 exchange whose PUBREC came.
func (w *Outbound[T]) Pubcomp(id uint16) (item T, ok bool) {
	i := w.find(id)
	if i < 0 || w.flights[i].qos != 2 || w.flights[i].state != OutReleased {
		return item, false
	}
	item = w.flights[i].item
	w.remove(i)
	return item, true
}

// All calls fn for what is in the window, in the order of sending.
func (w *Outbound[T]) All(fn func(id uint16, state OutState, item *T)) {
	for i := range w.flights {
		fn(w.flights[i].id, w.flights[i].state, &w.flights[i].item)
	}
}
