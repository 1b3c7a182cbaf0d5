package mqtt

import "encoding/binary"

// AppendUserProp appends p as it stands on the wire: that is the form of a
// Message's User field.
func AppendUserProp(dst []byte, p UserProp) []byte {
	dst = append(dst, propUser)
	for _, s := range [2]string{p.Key, p.Value} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// UserProps reads user properties as they stand on the wire, in order. What is
// malformed ends the list.
func UserProps(encoded []byte) (props []UserProp) {
	for len(encoded) > 0 && encoded[0] == propUser {
		key, rest, ok := cutString(encoded[1:])
		if !ok {
			return props
		}
		value, rest, ok := cutString(rest)
		if !ok {
			return props
		}
		props, encoded = append(props, UserProp{string(key), string(value)}), rest
	}
	return props
}
