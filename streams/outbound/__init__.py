"""CRM changes and facts to mutations: fold, decide, emit."""
