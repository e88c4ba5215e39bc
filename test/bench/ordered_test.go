package bench_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/rig"
)

const (
	orderFor    = 5 * time.Second
	orderedMax  = 60_000 // records signed before the clock starts
	orderedBody = 1000   // bytes
)

// BenchmarkOrdered is three hubs as processes and clients that each hand in one
// signed record of 1 kB and wait until it is ordered: on the disks of two hubs,
// signature checked, a leaf of the tree. With HEALTHPOST_PROFILE=FILE the leader
// writes a CPU profile.
func BenchmarkOrdered(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { orderWith(b, clients) })
	}
}

func orderWith(b *testing.B, clients int) {
	var hubs, writers []*device
	for i := range 3 {
		hubs = append(hubs, namedDevice(b, fmt.Sprintf("hub %d", i+1)))
	}
	for i := range clients {
		writers = append(writers, namedDevice(b, fmt.Sprintf("client %d", i+1)))
	}
	port := startHubs(b, hubs)
	first, err := founding(hubs, writers)
	check(b, "founding", err)
	lead := dialHub(b, port)
	rig.Eventually(b, time.Minute, "the founding", func() string { return lead.ordered(first) })
	rig.Eventually(b, time.Minute, "every hub to vote", func() string {
		if n := lead.ask(nil); n != 3 {
			return fmt.Sprintf("%d do", n)
		}
		return ""
	})
	requests := signed(writers)
	took := make([][]time.Duration, clients)
	var work sync.WaitGroup
	reportLoad(b)
	begun := time.Now()
	for i := range clients {
		c := dialHub(b, port)
		work.Go(func() {
			for _, r := range requests[i] {
				if time.Since(begun) > orderFor {
					return
				}
				one := time.Now()
				if v := record.Verdict(c.ask(r)); v != record.Ordered {
					b.Errorf("client %d: verdict %d", i, v)
					return
				}
				took[i] = append(took[i], time.Since(one))
			}
		})
	}
	work.Wait()
	elapsed := time.Since(begun)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(all))/elapsed.Seconds(), "records/s")
	b.ReportMetric(millis(quantile(all, 0.5)), "p50-ms")
	b.ReportMetric(millis(quantile(all, 0.95)), "p95-ms")
	b.ReportMetric(millis(quantile(all, 0.99)), "p99-ms")
}

func namedDevice(b *testing.B, name string) *device {
	d, err := newDevice(name)
	check(b, "making a device", err)
	return d
}

// signed makes the requests of every client.
func signed(writers []*device) [][][]byte {
	out := make([][][]byte, len(writers))
	rng := rand.New(rand.NewPCG(1, 1))
	body := make([]byte, orderedBody)
	for range orderedMax / len(writers) / 4 {
		for i, d := range writers {
			for j := 0; j < len(body); j += 8 {
				binary.LittleEndian.PutUint64(body[j:], rng.Uint64())
			}
			batch := record.Batch{Records: []record.Record{d.write(record.LaneClinical, record.KindClinical, record.CompartmentID{1}, append([]byte(nil), body...))}}
			out[i] = append(out[i], batch.Encode())
		}
	}
	return out
}

// startHubs gives the port of the first one, which leads.
func startHubs(b *testing.B, hubs []*device) string {
	b.Helper()
	p := hubPlan{Hubs: map[string]string{}}
	for _, h := range hubs {
		p.Hubs[h.name] = rig.FreePort(b)
	}
	port := rig.FreePort(b)
	for i, h := range hubs {
		p.Name, p.Submit, p.Profile = h.name, "", ""
		if i == 0 {
			p.Submit, p.Profile = port, os.Getenv("HEALTHPOST_PROFILE")
		}
		dir := b.TempDir()
		raw, err := json.Marshal(p)
		check(b, "writing a plan", err)
		check(b, "writing a plan", os.WriteFile(filepath.Join(dir, "plan.json"), raw, 0o600))
		startHub(b, dir)
	}
	return port
}

func startHub(b *testing.B, dir string) {
	self, err := os.Executable()
	check(b, "finding this program", err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), hubFolder+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(b, "starting a hub", cmd.Start())
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		hung := time.AfterFunc(startMax, func() { cmd.Process.Kill() })
		defer hung.Stop()
		if err := cmd.Wait(); err != nil {
			b.Errorf("a hub ended: %v", err)
		}
	})
}

// hubClient speaks to a hub's port.
type hubClient struct {
	b *testing.B
	c net.Conn
}

func dialHub(b *testing.B, port string) *hubClient {
	b.Helper()
	x := &hubClient{b: b}
	rig.Eventually(b, startMax, "a hub's port", func() string {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err.Error()
		}
		x.c = c
		return ""
	})
	b.Cleanup(func() { x.c.Close() })
	return x
}

// ask sends a request and gives the answer, noVerdict when the hub is gone.
func (x *hubClient) ask(request []byte) byte {
	msg := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(request)), uint32(len(request))), request...)
	answer := []byte{noVerdict}
	if _, err := x.c.Write(msg); err != nil {
		return noVerdict
	}
	if _, err := io.ReadFull(x.c, answer); err != nil {
		return noVerdict
	}
	return answer[0]
}

func (x *hubClient) ordered(recs []record.Record) string {
	b := record.Batch{Records: recs}
	if v := x.ask(b.Encode()); record.Verdict(v) != record.Ordered && record.Verdict(v) != record.Duplicate {
		return fmt.Sprintf("verdict %d", v)
	}
	return ""
}
