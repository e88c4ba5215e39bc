package node

import "runtime/metrics"

// ProcessStatus is what the running program holds. What else a process takes, the
// system tells.
type ProcessStatus struct {
	Goroutines uint64 `json:"goroutines"`
	HeapLive   uint64 `json:"heapLive"` // bytes in use when garbage was collected last
}

func processStatus() *ProcessStatus {
	s := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return &ProcessStatus{Goroutines: s[0].Value.Uint64(), HeapLive: s[1].Value.Uint64()}
}
