// Package rules holds the example rule files, for geocast demo.
package rules

import "embed"

// Files are the example folders, each with rules.yaml, users.yaml and track.csv.
//
//go:embed bus-route14/*.yaml bus-route14/*.csv
var Files embed.FS
