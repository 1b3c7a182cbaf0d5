package main

import (
	"fmt"
	"os"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// readTracks reads the fixes of files. Those that don't say whose they are become
// those of who.
func readTracks(names []string, who string) ([]geo.Fix, error) {
	var all []geo.Fix
	for _, name := range names {
		fixes, err := readTrack(name)
		if err != nil {
			return nil, err
		}
		for i := range fixes {
			if fixes[i].Who == "" {
				fixes[i].Who = who
			}
			if fixes[i].Who == "" {
				return nil, fmt.Errorf("%s: does not say whose fixes these are; give --who NAME", name)
			}
		}
		all = append(all, fixes...)
	}
	return all, nil
}

func readTrack(name string) ([]geo.Fix, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fixes, err := rules.ReadTrack(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return fixes, nil
}
