package abi

import "encoding/json"

// Log writes a line to the host's log. fields is the content of a JSON object without its braces, or empty.
func Log(level Level, target, message string, fields []byte) {
	s := ""
	if len(fields) > 0 {
		s = "{" + string(fields) + "}"
	}
	hostLog(level, target, message, s)
}

func appendField(fields []byte, key, value string) []byte {
	if len(fields) > 0 {
		fields = append(fields, ',')
	}
	fields = append(AppendString(fields, key), ':')
	return AppendString(fields, value)
}

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil { // marshaling a string cannot fail
		return append(b, `""`...)
	}
	return append(b, quoted...)
}
