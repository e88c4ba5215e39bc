package sim

// In the scenario Big three hundred clinics, carriers and five hubs go on for a
// month. It is not among Scenarios: one run takes minutes and a few GiB.

func (w *world) bigPlan() {
	const hour, day = int64(3_600_000), int64(24 * 3_600_000)
	p := &w.plan
	p.Hubs, p.Clinics, p.Fields, p.Patients, p.Remote = 5, 300, 12, 120, 10
	p.SafetyMillis, p.SaveMillis, p.VisitMillis = 30*day, 2*day, day
	p.ImportMillis, p.ImportMax, p.ParcelMillis, p.StickFaultIn = day, 200, 4*hour, 4
	p.HubTalk, p.OrderMillis, p.ProposeMillis, p.CheckMillis, p.MeetMillis = 5*60_000, 60_000, 60_000, 3*hour, 12*hour
	p.ApplyMillis, p.BatchMax, p.BatchBytes = 5_000, 512, 256<<10
	p.Latency, p.BytesPerSec, p.Window, p.NeighboursIn, p.LieIn = 300, 15_000, 64<<10, 4, 6
	p.CrashMillis, p.RestoreMillis, p.SplitMillis, p.ClockMillis = 3*hour, 12*hour, 2*day, 6*hour
	p.Sampled = true
}
