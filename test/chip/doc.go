// Package chip starts TPMs that are programs (swtpm), for tests.
package chip
