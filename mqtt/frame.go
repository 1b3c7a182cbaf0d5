package mqtt

import (
	"encoding/binary"
	"unicode/utf8"
)

// Frame cuts the first packet off buf: its first byte, its body (the variable
// header and payload, which alias buf) and its whole length n. n is 0 while the
// packet is not complete. maxPacket bounds the whole packet in bytes.
func Frame(buf []byte, maxPacket int) (first byte, body []byte, n int, err error) {
	if len(buf) == 0 {
		return 0, nil, 0, nil
	}
	length, k := 0, 0
	for {
		if k == 4 {
			return 0, nil, 0, malformed("MQTT-1.5.5-1", "the remaining length has more than four bytes")
		}
		if k+1 >= len(buf) {
			return 0, nil, 0, nil
		}
		b := buf[1+k]
		length |= int(b&0x7f) << (7 * k)
		k++
		if b < 0x80 {
			break
		}
	}
	head := 1 + k
	if head+length > maxPacket {
		return 0, nil, 0, &Error{PacketTooLarge, "MQTT-3.2.2-15", "the packet is larger than the server takes"}
	}
	if len(buf) < head+length {
		return 0, nil, 0, nil
	}
	return buf[0], buf[head : head+length : head+length], head + length, nil
}

// Length is the whole length in bytes of the packet that buf begins with, 0 if buf does
// not say it yet.
func Length(buf []byte) int {
	for k, length := 1, 0; k < min(len(buf), 5); k++ {
		length |= int(buf[k]&0x7f) << (7 * (k - 1))
		if buf[k] < 0x80 {
			return 1 + k + length
		}
	}
	return 0
}

// appendLength appends a variable byte integer [MQTT-1.5.5].
func appendLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func lengthSize(n int) int {
	k := 1
	for ; n >= 0x80; n >>= 7 {
		k++
	}
	return k
}

// cutLength reads a variable byte integer of at most four bytes, in its
// shortest form.
func cutLength(b []byte) (n int, rest []byte, ok bool) {
	for k := range min(len(b), 4) {
		n |= int(b[k]&0x7f) << (7 * k)
		if b[k] < 0x80 {
			return n, b[k+1:], k == 0 || b[k] != 0
		}
	}
	return 0, nil, false
}

// cutBytes reads binary data with a two-byte length.
func cutBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n : 2+n], b[2+n:], true
}

// cutString reads a UTF-8 string without U+0000 [MQTT-1.5.4-1, -2].
func cutString(b []byte) (v, rest []byte, ok bool) {
	v, rest, ok = cutBytes(b)
	return v, rest, ok && validString(v)
}

// orMalformed is err, or a malformed packet that text explains.
func orMalformed(err error, text string) error {
	if err != nil {
		return err
	}
	return malformed("MQTT-2.1.4", text)
}

func validString(v []byte) bool {
	for _, c := range v {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(v)
}

func appendBytes[T ~[]byte | ~string](dst []byte, v T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}
