//go:build !crashpoints

// Package crashpoint names the places in the code where a test can kill the process. In a normal build every call is empty.
package crashpoint

// At marks a place that a test may choose to die at. It does nothing unless the binary was built with the tag crashpoints.
func At(string) {}
