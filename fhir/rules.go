package fhir

import (
	"slices"
	"strings"
)

// KnownType says whether name is a resource type of R4 (4.0.1).
func KnownType(name string) bool {
	_, ok := slices.BinarySearch(resourceTypes, name)
	return ok
}

// resourceTypes are the resource types of R4, sorted.
var resourceTypes = strings.Fields(`
Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem ChargeItemDefinition
Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest CompartmentDefinition Composition ConceptMap
Condition Consent Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition
DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter
Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario
ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization
ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure
MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication MedicinalProductIngredient
MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation
ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice
PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment
RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap
Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial
SubstanceSpecification SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport TestScript ValueSet VerificationResult
VisionPrescription`)

// dataTypes are the datatypes that can stand behind the stem of a choice element (datatypes.html, Open Type Element).
var dataTypes = setOf(`Base64Binary Boolean Canonical Code Date DateTime Decimal Id Instant Integer Markdown Oid PositiveInt String Time
UnsignedInt Uri Url Uuid ` + complexNames)

// complexTypes are those of dataTypes that are objects.
var complexTypes = setOf(complexNames)

const complexNames = `Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance Duration HumanName
Identifier Money Period Quantity Range Ratio Reference SampledData Signature Timing ContactDetail Contributor DataRequirement
Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage Meta`

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// rule is what a resource type asks of its direct elements.
type rule struct {
	required []string            // names; "value[x]" stands for any type of that choice
	lists    []string            // elements that repeat; every other known element stands once
	objects  []string            // elements that are objects and stand once
	codes    map[string][]string // required bindings
}

var financialCodes = map[string][]string{"status": words("active cancelled draft entered-in-error"),
	"use": words("claim preauthorization predetermination"), "outcome": words("queued complete error partial")}

// rules holds the types that the page reads and the forms write. Source: the R4 StructureDefinitions of each type.
var rules = map[string]rule{
	"Patient": {
		lists:   words("identifier name telecom address photo contact communication generalPractitioner link"),
		objects: words("maritalStatus managingOrganization"),
		codes:   map[string][]string{"gender": words("male female other unknown")},
	},
	"Encounter": {
		required: words("status class"),
		lists:    words("identifier statusHistory classHistory type episodeOfCare basedOn participant appointment reasonCode reasonReference diagnosis account location"),
		objects:  words("class serviceType priority subject period length hospitalization serviceProvider partOf"),
		codes:    map[string][]string{"status": words("planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown")},
	},
	"Observation": {
		required: words("status code"),
		lists:    words("identifier basedOn partOf category focus performer interpretation note referenceRange hasMember derivedFrom component"),
		objects:  words("code subject encounter dataAbsentReason bodySite method specimen device valueQuantity valueCodeableConcept"),
		codes:    map[string][]string{"status": words("registered preliminary final amended corrected cancelled entered-in-error unknown")},
	},
	"Condition": {
		required: words("subject"),
		lists:    words("identifier category bodySite stage evidence note"),
		objects:  words("clinicalStatus verificationStatus severity code subject encounter recorder asserter"),
	},
	"AllergyIntolerance": {
		required: words("patient"),
		lists:    words("identifier category note reaction"),
		objects:  words("clinicalStatus verificationStatus code patient encounter recorder asserter"),
		codes: map[string][]string{"type": words("allergy intolerance"), "criticality": words("low high unable-to-assess"),
			"category": words("food medication environment biologic")},
	},
	"MedicationRequest": {
		required: words("status intent medication[x] subject"),
		lists: words("identifier category supportingInformation reasonCode reasonReference instantiatesCanonical instantiatesUri basedOn insurance " +
			"note dosageInstruction detectedIssue eventHistory"),
		objects: words("statusReason medicationCodeableConcept medicationReference subject encounter requester performer performerType recorder " +
			"groupIdentifier courseOfTherapyType dispenseRequest substitution priorPrescription"),
		codes: map[string][]string{"status": words("active on-hold cancelled completed entered-in-error stopped draft unknown"),
			"intent":   words("proposal plan order original-order reflex-order filler-order instance-order option"),
			"priority": words("routine urgent asap stat")},
	},
	"Immunization": {
		required: words("status vaccineCode patient occurrence[x]"),
		lists:    words("identifier performer note reasonCode reasonReference subpotentReason education programEligibility reaction protocolApplied"),
		objects:  words("statusReason vaccineCode patient encounter reportOrigin location manufacturer site route doseQuantity fundingSource"),
		codes:    map[string][]string{"status": words("completed entered-in-error not-done")},
	},
	"Procedure": {
		required: words("status subject"),
		lists: words("identifier instantiatesCanonical instantiatesUri basedOn partOf performer reasonCode reasonReference bodySite report " +
			"complication complicationDetail followUp note focalDevice usedReference usedCode"),
		objects: words("statusReason category code subject encounter recorder asserter location outcome"),
		codes:   map[string][]string{"status": words("preparation in-progress not-done on-hold stopped completed entered-in-error unknown")},
	},
	"DiagnosticReport": {
		required: words("status code"),
		lists: words("identifier basedOn category performer resultsInterpreter specimen result imagingStudy media conclusionCode " +
			"presentedForm"),
		objects: words("code subject encounter"),
		codes: map[string][]string{"status": words("registered partial preliminary final amended corrected appended cancelled " +
			"entered-in-error unknown")},
	},
	"ServiceRequest": {
		required: words("status intent subject"),
		lists: words("identifier instantiatesCanonical instantiatesUri basedOn replaces category orderDetail performer locationCode " +
			"locationReference reasonCode reasonReference insurance supportingInfo specimen bodySite note relevantHistory"),
		objects: words("requisition code subject encounter requester performerType"),
		codes: map[string][]string{"status": words("draft active on-hold revoked completed entered-in-error unknown"),
			"intent":   words("proposal plan directive order original-order reflex-order filler-order instance-order option"),
			"priority": words("routine urgent asap stat")},
	},
	"CarePlan": {required: words("status intent subject"), objects: words("subject encounter period author"),
		lists: words("identifier basedOn replaces partOf category contributor careTeam addresses supportingInfo goal activity note"),
		codes: map[string][]string{"status": words("draft active on-hold revoked completed entered-in-error unknown"), "intent": words("proposal plan order option")}},
	"CareTeam": {lists: words("identifier category participant reasonCode reasonReference managingOrganization telecom note"),
		objects: words("subject encounter period"), codes: map[string][]string{"status": words("proposed active suspended inactive entered-in-error")}},
	"Goal": {required: words("lifecycleStatus description subject"), objects: words("description subject achievementStatus priority expressedBy"),
		lists: words("identifier category target addresses note outcomeCode outcomeReference"),
		codes: map[string][]string{"lifecycleStatus": words("proposed planned accepted active on-hold completed cancelled entered-in-error rejected")}},
	"DocumentReference": {required: words("status content"), lists: words("identifier content author category relatesTo securityLabel"),
		objects: words("masterIdentifier type subject authenticator custodian context"),
		codes:   map[string][]string{"status": words("current superseded entered-in-error")}},
	"ImagingStudy": {required: words("status subject"), objects: words("subject encounter referrer location"),
		lists: words("identifier modality basedOn interpreter endpoint procedureCode reasonCode reasonReference note series"),
		codes: map[string][]string{"status": words("registered available cancelled entered-in-error unknown")}},
	"Claim": {required: words("status type use patient created provider priority insurance"),
		lists: words("identifier related careTeam supportingInfo diagnosis procedure insurance item"),
		objects: words("type subType patient billablePeriod enterer insurer provider priority fundsReserve prescription originalPrescription payee " +
			"referral facility accident total"),
		codes: financialCodes},
	"ExplanationOfBenefit": {required: words("status type use patient created insurer provider outcome insurance"),
		lists: words("identifier related careTeam supportingInfo diagnosis procedure insurance item addItem adjudication total processNote benefitBalance"),
		objects: words("type subType patient billablePeriod enterer insurer provider priority prescription originalPrescription payee referral " +
			"claim claimResponse facility accident payment form formCode"),
		codes: financialCodes},
	"Provenance":         {required: words("target recorded agent"), lists: words("target agent")},
	"MedicationDispense": {required: words("status medication[x]"), objects: words("subject context")},
	"RelatedPerson":      {required: words("patient"), lists: words("identifier name telecom address relationship"), objects: words("patient")},
	"Organization":       {lists: words("identifier telecom address contact endpoint")},
	"Practitioner":       {lists: words("identifier name telecom address qualification"), codes: map[string][]string{"gender": words("male female other unknown")}},
	"PractitionerRole":   {lists: words("identifier code specialty location telecom"), objects: words("practitioner organization period")},
	"Location":           {lists: words("identifier type telecom"), objects: words("address physicalType position managingOrganization partOf")},
}

// oneIdentifier are the types whose identifier does not repeat.
var oneIdentifier = setOf(`Bundle CapabilityStatement Composition ConceptMap MessageDefinition QuestionnaireResponse RequestGroup RiskAssessment
SubstanceProtein SubstanceSpecification TestReport TestScript DeviceMetric ImmunizationEvaluation Questionnaire Endpoint MedicinalProductPharmaceutical
MedicinalProductIngredient DetectedIssue`)

func words(s string) []string { return strings.Fields(s) }

// rules applies the rule of the type, if there is one, to the direct elements of v.
func (c *checker) rules(v value, at, typ string) {
	if id := v.get("identifier"); v.has("identifier") && id.kind != kindArray && !oneIdentifier[typ] {
		c.fail(at+".identifier", "is not a list")
	}
	for _, name := range [...]string{"status", "intent", "use", "language", "implicitRules"} {
		if v.has(name) && v.get(name).kind != kindText {
			c.fail(at+"."+name, "is not a string")
		}
	}
	for _, name := range [...]string{"name", "title", "description"} {
		if k := v.get(name).kind; k == kindNumber || k == kindBool {
			c.fail(at+"."+name, "is not a string")
		}
	}
	if text := v.get("text"); v.has("text") && (text.kind != kindObject || !hasElement(text, "status") || !hasElement(text, "div")) {
		c.fail(at+".text", "is no narrative with a status and a div")
	}
	r, ok := rules[typ]
	if !ok {
		return
	}
	for _, name := range r.required {
		if !hasElement(v, name) {
			c.fail(at+"."+name, "is missing")
		}
	}
	for _, name := range r.lists {
		if m := v.get(name); v.has(name) && m.kind != kindArray {
			c.fail(at+"."+name, "is not a list")
		}
	}
	for _, name := range r.objects {
		if m := v.get(name); v.has(name) && m.kind != kindObject {
			c.fail(at+"."+name, "is not an object")
		}
	}
	for i := range v.members {
		c.code(r, &v.members[i], at)
	}
}

func (c *checker) code(r rule, m *member, at string) {
	allowed, bound := r.codes[m.name]
	if !bound {
		return
	}
	for _, item := range m.value.list() {
		if item.kind != kindText || !slices.Contains(allowed, item.text) {
			c.fail(at+"."+m.name, "is not one of: "+strings.Join(allowed, ", "))
		}
	}
}

// hasElement also counts "_status": a primitive whose value is given by an extension.
func hasElement(v value, name string) bool {
	stem, isChoice := strings.CutSuffix(name, "[x]")
	if !isChoice {
		return v.has(name) || v.has("_"+name)
	}
	for i := range v.members {
		rest, ok := strings.CutPrefix(strings.TrimPrefix(v.members[i].name, "_"), stem)
		if ok && dataTypes[rest] {
			return true
		}
	}
	return false
}
