package rest

import "strings"

// wasmopWithoutProtobuf returns the configuration of a client that sends and accepts JSON in place of protobuf.
func wasmopWithoutProtobuf(config ClientContentConfig) ClientContentConfig {
	const protobuf, json = "application/vnd.kubernetes.protobuf", "application/json"
	if strings.HasPrefix(config.ContentType, protobuf) {
		config.ContentType = json
	}
	var accepted []string
	for _, mediaType := range strings.Split(config.AcceptContentTypes, ",") {
		mediaType = strings.TrimSpace(mediaType)
		if strings.HasPrefix(mediaType, protobuf) {
			mediaType = json
		}
		if mediaType != "" {
			accepted = append(accepted, mediaType)
		}
	}
	config.AcceptContentTypes = strings.Join(accepted, ",")
	return config
}
