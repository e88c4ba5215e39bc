package node_test

import (
	"fmt"
	"testing"

	"github.com/healthpost/healthpost/web"
)

// BenchmarkKeysAndRules is what keys and rules cost when a chart is opened: of 40 visits, with a
// limit and ten permissions, some of them recalled. "records" is the once that comes after an
// update, "row" every other time.
func BenchmarkKeysAndRules(b *testing.B) {
	c := newClinic(b)
	patient := c.register("form-first", "Bench")
	for i := range 40 {
		c.visited(patient, fmt.Sprint("visit-", i), "fever")
	}
	c.decides(patient, "limit", web.Decision{Do: web.DoLimit})
	for i := range 10 {
		c.decides(patient, fmt.Sprint("grant-", i), web.Decision{Do: web.DoGrant, Days: 1 + i})
	}
	keysAndRules(b, c, patient)
}

// BenchmarkClosedKeysAndRules is the same of a chart with ten closed generations, one above the other, the last of them
// handed to this box.
func BenchmarkClosedKeysAndRules(b *testing.B) {
	c, patient := newClosed(b)
	for i := range 40 {
		c.visited(patient, fmt.Sprint("visit-", i), "fever")
	}
	for i := range 10 {
		c.decides(patient, fmt.Sprint("grant-", i), web.Decision{Do: web.DoGrant, Days: 1 + i})
	}
	newest, links, err := c.n.ChainUnder(patient, 10)
	if err == nil {
		err = c.n.Plant(b.Context(), patient, append(links, newest)...)
	}
	if err != nil {
		b.Fatal(err)
	}
	keysAndRules(b, c, patient)
}

func keysAndRules(b *testing.B, c *clinic, patient string) {
	page, err := c.n.Consents(b.Context(), c.token, patient)
	if err != nil {
		b.Fatal(err)
	}
	for i, g := range page.Grants[:3] {
		c.decides(patient, fmt.Sprint("end-", i), web.Decision{Do: web.DoEnd, ID: g.ID})
	}
	for name, again := range map[string]bool{"row": false, "records": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := c.n.KeysAndRules(c.token.Token, patient, again); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/chart")
		})
	}
}
