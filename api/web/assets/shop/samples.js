// Made-up buyers for a quick look: one without tax, one with tax on top, two with tax in the price.

export const SAMPLES = [
  {
    label: "Springfield",
    values: {
      email: "john.doe@example.com", name: "John Doe", country: "US",
      line1: "123 Main St", city: "Springfield", region: "IL", postal_code: "62704",
    },
  },
  {
    label: "New York",
    values: {
      email: "jane.smith@example.com", name: "Jane Smith", country: "US",
      line1: "456 Oak Ave", line2: "Apt 7", city: "New York", region: "NY", postal_code: "10012",
    },
  },
  {
    label: "Berlin",
    values: {
      email: "erika@example.com", name: "Erika Mustermann", country: "DE",
      line1: "Heidestraße 17", city: "Berlin", postal_code: "10557",
    },
  },
  {
    label: "Tokyo",
    values: {
      email: "hanako@example.com", name: "山田 花子", country: "JP",
      line1: "丸の内 1-9-1", city: "千代田区", region: "東京都", postal_code: "100-0005",
    },
  },
];
