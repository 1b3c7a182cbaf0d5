package mqtt_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/mqtt"
)

// The outbound window against a dumb list.
func TestOutboundWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type flight struct {
			id       uint16
			qos      byte
			released bool
			item     int
		}
		var w mqtt.Outbound[int]
		var list []flight
		capacity := rapid.IntRange(1, 5).Draw(t, "capacity")
		w.SetCapacity(capacity)
		at := func(id uint16) int { return slices.IndexFunc(list, func(f flight) bool { return f.id == id }) }
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := uint16(rapid.IntRange(0, 12).Draw(t, "id"))
			i := at(id)
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0:
				qos := byte(rapid.IntRange(1, 2).Draw(t, "qos"))
				id, ok := w.Add(qos, step)
				if ok != (len(list) < capacity) || ok && (id == 0 || at(id) >= 0) {
					t.Fatalf("Add gave %d, %v with %v", id, ok, list)
				}
				if ok {
					list = append(list, flight{id, qos, false, step})
				}
			case 1:
				_, ok := w.Puback(id)
				if ok != (i >= 0 && list[i].qos == 1) {
					t.Fatalf("Puback(%d) is %v with %v", id, ok, list)
				}
				if ok {
					list = slices.Delete(list, i, i+1)
				}
			case 2:
				_, first, ok := w.Pubrec(id)
				if want := i >= 0 && list[i].qos == 2; ok != want || ok && first == list[i].released {
					t.Fatalf("Pubrec(%d) is %v, %v with %v", id, first, ok, list)
				}
				if ok {
					list[i].released = true
				}
			case 3:
				_, ok := w.Pubcomp(id)
				if ok != (i >= 0 && list[i].released) {
					t.Fatalf("Pubcomp(%d) is %v with %v", id, ok, list)
				}
				if ok {
					list = slices.Delete(list, i, i+1)
				}
			}
			var got []int
			w.All(func(_ uint16, _ mqtt.OutState, item *int) { got = append(got, *item) })
			var want []int
			for _, f := range list {
				want = append(want, f.item)
			}
			if !slices.Equal(got, want) || w.Free() != capacity-len(list) {
				t.Fatalf("holds %v, want %v; free %d", got, want, w.Free())
			}
		}
	})
}

// [MQTT-2.2.1-3], [MQTT-2.2.1-4]: identifiers come round without 0, and without those in use.
func TestIdentifiersComeRound(t *testing.T) {
	var w mqtt.Outbound[int]
	w.SetCapacity(2)
	stays, _ := w.Add(1, 0)
	for i := range 1 << 17 {
		id, ok := w.Add(1, i)
		if !ok || id == 0 || id == stays {
			t.Fatalf("message %d: identifier %d, %v", i, id, ok)
		}
		w.Puback(id)
	}
}
