// Countries by name in the buyer's language, and what parts of an address are called there.

const CODES = `
AC AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR
GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO
JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR
MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO
RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TF TG TH TJ TK TL TM TN TO TR TT
TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW`.trim().split(/\s+/);

const LABELS = {
  US: { region: "State", postal_code: "ZIP code" },
  CA: { region: "Province", postal_code: "Postal code" },
  AU: { region: "State", postal_code: "Postcode" },
  GB: { region: "County", postal_code: "Postcode" },
  JP: { region: "Prefecture", postal_code: "Postal code" },
  IN: { region: "State", postal_code: "PIN code" },
};
const OTHER_LABELS = { region: "Region", postal_code: "Postal code" };

/** `[code, name]`, sorted by name. */
export function countries() {
  const names = new Intl.DisplayNames(undefined, { type: "region" });
  return CODES.map((code) => [code, names.of(code)]).sort((a, b) => a[1].localeCompare(b[1]));
}

export const labelsOf = (country) => LABELS[country] ?? OTHER_LABELS;
